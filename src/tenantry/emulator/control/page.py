"""The control page: HTML from the state, and forms that use the same controls as the JSON API.

Theory of operation. A page is a GET. Each of its forms is sent to the page it stands on and names a control, as
`DELETE /users/user_1`, in the field `_do`. When the control has done it, the browser is sent back (303); when it
refuses, the page comes again with the reason, and with what was typed. Nothing needs a script. With htmx the same
requests happen without a reload, and the `live` part of a page asks every two seconds whether it is still the newest:
it sends the version it shows, and gets 204 when there is no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from tenantry.emulator import templates
from tenantry.emulator.bundles import Bundles
from tenantry.emulator.control import views
from tenantry.emulator.control.assets import Assets
from tenantry.emulator.control.call import Call, ControlForm, Controls, Json
from tenantry.emulator.control.forms import FormState, Outcome, receive
from tenantry.emulator.control.local import check_local, check_own_form
from tenantry.emulator.errors import ClerkError

# Nothing from elsewhere, and in no other site's frame. No `form-action`: a sign-in leads from a form to the app.
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def create_page(controls: Controls, bundles: Bundles) -> Starlette:
    """To be mounted at `/`, after everything else."""
    assets = Assets(bundles)
    pages = [
        Route(path, _endpoint(controls, assets, page), methods=["GET", "POST"]) for path, page in views.PAGES.items()
    ]
    return Starlette(routes=[Route("/assets/{name}", assets.serve), *pages, Route("/{path:path}", _find_nothing)])


def _endpoint(controls: Controls, assets: Assets, page: views.Page) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            check_local(request)
            outcome = await submit(request) if request.method == "POST" else None
            if outcome and (url := outcome.leads_to(_here(request))):
                return RedirectResponse(url, 303, headers=_HEADERS)
            query = ControlForm.from_pairs(request.query_params.multi_items())
            call = Call(controls, dict(request.path_params), query)
            context = page.build(call) | _shared(request, call, outcome)
        except ClerkError as error:
            return _refuse(error)
        context |= _live(page, context)
        if request.headers.get("hx-trigger") == "live":  # the forms and links in it inherit the version, not this
            return _show_live(request, context)
        context["missing"] = await assets.missing()
        status = outcome.error.status if outcome and outcome.error else 200
        return HTMLResponse(_render(page.template, context), status, headers=_HEADERS)

    async def submit(request: Request) -> Outcome:
        check_own_form(request)
        return await receive(controls, request)

    return answer


async def _find_nothing(request: Request) -> Response:
    return _refuse(ClerkError(404, "resource_not_found", "There is no such page."))


def _refuse(error: ClerkError) -> Response:
    return HTMLResponse(_render("refused.html", {"message": error.message}), error.status, headers=_HEADERS)


def _show_live(request: Request, context: Json) -> Response:
    if request.headers.get("known-version") == context["version"]:
        return Response(status_code=204)
    return HTMLResponse(_render("live.html", context), headers=_HEADERS)


def _live(page: views.Page, context: Json) -> Json:
    text = _render(page.live, context) if page.live else ""
    return {"live": Markup(text), "version": hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}


def _shared(request: Request, call: Call, outcome: Outcome | None) -> Json:
    """What every template may use."""
    settings = call.state.settings
    return {
        "here": _here(request),
        "path": request.url.path,
        "outcome": outcome,
        "form_state": outcome.state_of if outcome else FormState,
        "app_url": call.controls.app_url,
        "roles": list(call.state.roles.values()),
        "usual_role": settings.domains_default_role,
        "usual_limit": settings.max_allowed_memberships,
        "slugs_on": settings.slugs,
    }


def _here(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _render(template: str, context: Json) -> str:
    return _templates().get_template(template).render(context)


@cache
def _templates() -> jinja2.Environment:
    environment = templates.load("tenantry.emulator.control")
    environment.filters |= {
        "clock": _clock,
        "day": _day,
        "words": _words,
        "options": _options,
        "decode": views.decode,
    }
    return environment


def _clock(milliseconds: int) -> str:
    """This machine's time: who reads it sits at it."""
    return f"{datetime.fromtimestamp(milliseconds / 1000):%H:%M:%S}"


def _day(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000):%Y-%m-%d %H:%M}"


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _options(things: Iterable[Any], value: str = "", label: str = "") -> list[tuple[str, str]]:
    """Values and labels for a choice, by attribute; words stand for themselves."""
    return [(getattr(each, value), getattr(each, label)) if value else (each, each) for each in things]
