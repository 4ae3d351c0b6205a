"""Which variant of the Next.js suite a project gets: as asked for, as the last time, as its facts say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from tenantry.errors import ConfigurationError
from tenantry.scaffold.nextjs_suite import ORG_NAMES, ORMS, Choice
from tenantry.scaffold.project import NextProject

_Word = TypeVar("_Word", bound=str)


def choose(
    project: NextProject, earlier: Mapping[str, str], *, orm: str | None, by: str | None, api: str | None
) -> Choice:
    """What was asked for, else what an earlier run remembers, else what the project's facts say.

    Raises ConfigurationError.
    """
    if orm is not None and api is not None:
        raise ConfigurationError("--orm and --api contradict each other.", hint="With --api the data is the API's.")
    chosen = Choice(
        orm=_among(ORMS, orm or earlier.get("orm") or project.orm, "--orm"),
        by=_among(ORG_NAMES, by or earlier.get("by") or "id", "--by"),
        api=_check_url(api) if api is not None else earlier.get("api") if orm is None else None,
    )
    if chosen.api is None:
        _refuse_edge(project)
    if chosen.api is None and chosen.orm == "prisma" and project.other_database is not None:
        raise ConfigurationError(
            f"This app's Prisma schema is for {project.other_database}; tenants are kept apart by PostgreSQL.",
            hint="Move its tables to PostgreSQL, or keep them behind an API: --api URL.",
        )
    return chosen


def _among(known: tuple[_Word, ...], word: str, option: str) -> _Word:
    for one in known:
        if one == word:
            return one
    raise ConfigurationError(f"{option} is one of {', '.join(known)}, not {word!r}.")


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ConfigurationError(f"--api takes an address, not {url!r}.", hint="Write it like http://localhost:8000.")
    return url.rstrip("/")


def _refuse_edge(project: NextProject) -> None:
    """Nothing of the suite runs at the edge: it has no connection to PostgreSQL."""
    layouts = [path for path in project.edge_files if path.stem == "layout" and path.parent == project.source / "app"]
    if layouts:
        raise ConfigurationError(
            f"{layouts[0]} sends the whole app to the edge runtime, which has no connection to PostgreSQL.",
            hint='Take `export const runtime = "edge"` out, or keep the data behind an API: --api URL.',
        )
