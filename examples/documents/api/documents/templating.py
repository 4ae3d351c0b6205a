"""Renders a page: the templates, what they may call, and headers that let it load nothing but its own and Clerk's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

from documents.people import Member
from tenantry.browser import content_security_policy
from tenantry.starlette import request_scope, tenancy_of

HEADERS = {
    "Cache-Control": "no-store",  # a page of one organization must not come back after a switch to another
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
HUES = 6
UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def offer_clerk(request: Request) -> dict[str, Any]:
    """`clerk` in every template: the tags of Clerk's components."""
    return tenancy_of(request).template_context(request)


templates = Jinja2Templates(directory=Path(__file__).with_name("templates"), context_processors=[offer_clerk])


def render(request: Request, name: str, *, status_code: int = 200, **context: Any) -> HTMLResponse:
    """The page `name`; with `tenant` in `context` it is one of that organization."""
    facts = {"tenant": None, "members": (), "identity": request_scope(request).identity} | context
    policy = content_security_policy(tenancy_of(request).settings, {"frame-ancestors": ["'none'"]})
    headers = HEADERS | {"Content-Security-Policy": policy}
    return templates.TemplateResponse(request, name, facts, status_code=status_code, headers=headers)


def tell_age(then: datetime) -> str:
    """`just now`, `5 min ago`, `3 d ago`, and the date after a week."""
    age = datetime.now(UTC) - then
    if age > timedelta(days=7):
        return f"{then:%-d %B %Y}"
    for unit, seconds in UNITS:
        if count := int(age.total_seconds() // seconds):
            return f"{count} {unit} ago"
    return "just now"


def name_person(user_id: str, members: Sequence[Member], own_id: str | None = None) -> str:
    """A member's name; the reader's own where the mirror has not seen them yet; else somebody who has left."""
    names = {member.user_id: member.name for member in members}
    return names.get(user_id) or ("You" if user_id == own_id else "A former member")


def shorten_name(name: str) -> str:
    """Initials for a picture: `AL`."""
    words = [word for word in name.split() if word[0].isalnum()] or ["?"]
    return "".join(word[0] for word in (words[0], *words[1:][-1:])).upper()


def pick_hue(key: str) -> int:
    """One of the style sheet's colours, the same for the same person."""
    return sha256(key.encode()).digest()[0] % HUES


def name_role(role: str | None) -> str:
    """`Admin` for `org:admin`."""
    return (role or "").removeprefix("org:").replace("_", " ").capitalize()


templates.env.filters.update(age=tell_age, initials=shorten_name, hue=pick_hue, role_name=name_role, person=name_person)
