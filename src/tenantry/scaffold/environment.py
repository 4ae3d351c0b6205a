"""The lines of `.env.example`: which variables the app reads. The files with real values are never touched."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tenantry.scaffold.plan import read_text

Line = tuple[str, str, str]  # variable, example, what it is

_NAMED = re.compile(r"^\s*(?:#\s*)?(?:export\s+)?(\w+)\s*=", re.MULTILINE)


def add_lines(path: Path, lines: Iterable[Line]) -> str:
    """The file's text with a line for each variable that it does not name, be it commented out."""
    before = read_text(path) or ""
    named = set(_NAMED.findall(before))
    added = [f"# {what}\n{name}={example}\n" for name, example, what in lines if name not in named]
    if not added:
        return before
    if before and not before.endswith("\n"):
        before += "\n"
    return f"{before}\n{''.join(added)}" if before else "".join(added)


def name_unset(paths: Iterable[Path], lines: Iterable[Line]) -> list[str]:
    """The variables that no file with real values sets. The files are read for names alone."""
    texts = "\n".join(read_text(path) or "" for path in paths)
    named = set(re.findall(r"^\s*(?:export\s+)?(\w+)\s*=", texts, re.MULTILINE))
    return [name for name, _, _ in lines if name not in named]


def nextjs_lines(api: str | None) -> list[Line]:
    """What the suite reads in a Next.js app; `api` is the address of the FastAPI that owns the data, if one does."""
    clerk: list[Line] = [
        ("NEXT_PUBLIC_CLERK_PUBLISHABLE_KEY", "pk_test_", "Clerk dashboard, API keys"),
        ("CLERK_SECRET_KEY", "sk_test_", "Clerk dashboard, API keys"),
        ("CLERK_AUTHORIZED_PARTIES", "http://localhost:3000", "The origins of this app's pages, by comma"),
    ]
    if api is not None:
        return [
            *clerk,
            ("TENANTRY_API_URL", api, "Where the API is, as the server reaches it"),
            ("NEXT_PUBLIC_TENANTRY_API_URL", api, "Where the API is, as a browser reaches it"),
        ]
    return [
        *clerk,
        ("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_", "Clerk dashboard, Webhooks, the endpoint at /api/webhooks/clerk"),
        ("DATABASE_URL", "postgresql://app:password@localhost:5432/app", "The app's login, an ordinary role"),
    ]


def fastapi_lines() -> list[Line]:
    """What Tenantry reads in a FastAPI app."""
    return [
        ("DATABASE_URL", "postgresql://app:password@localhost:5432/app", "The app's login, an ordinary role"),
        ("TENANTRY_MIGRATION_URL", "postgresql://owner:password@localhost:5432/app", "The owner, for migrations"),
        ("CLERK_PUBLISHABLE_KEY", "pk_test_", "Clerk dashboard, API keys"),
        ("CLERK_SECRET_KEY", "sk_test_", "Clerk dashboard, API keys"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_", "Clerk dashboard, Webhooks, the endpoint at /webhooks/clerk"),
        ("CLERK_AUTHORIZED_PARTIES", "http://localhost:3000", "The origins of your frontends, by comma"),
    ]
