"""The few pages of the Frontend API that a person sees: small, without scripts, light or dark."""

from __future__ import annotations

from functools import cache

import jinja2
from starlette.responses import HTMLResponse, Response

from tenantry.emulator import templates
from tenantry.emulator.errors import ClerkError

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
}


def render_page(template: str, context: dict[str, object], status: int = 200) -> Response:
    return HTMLResponse(_templates().get_template(template).render(context), status, headers=HEADERS)


def refuse(error: ClerkError) -> Response:
    """What went wrong, for who clicked rather than called."""
    return render_page("refused.html", {"message": error.message}, error.status)


@cache
def _templates() -> jinja2.Environment:
    return templates.load("tenantry.emulator.frontend_api")
