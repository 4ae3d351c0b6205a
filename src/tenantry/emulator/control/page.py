"""The control page: HTML from the state, and forms that use the same controls as the JSON API.

Theory of operation. A page is a GET. Each of its forms is sent to the page it stands on and names a control, as
`DELETE /users/user_1`, in the field `_do`. When the control has done it, the browser is sent back (303); when it
refuses, the page comes again with the reason, and with what was typed. Nothing needs a script. With htmx the same
requests happen without a reload, and the `live` part of a page asks every two seconds whether it is still the newest:
it sends the version it shows, and gets 204 when there is no other.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import jinja2
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from tenantry.emulator.bundles import Bundles
from tenantry.emulator.control import views
from tenantry.emulator.control.assets import Assets
from tenantry.emulator.control.call import Call, ControlForm, Controls, Json
from tenantry.emulator.control.local import check_local, check_own_form
from tenantry.emulator.control.routes import find_action
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.http import read_body

# Nothing from elsewhere, and in no other site's frame. No `form-action`: a sign-in leads from a form to the app.
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_SPECIAL = ("_do", "_form", "_next")


@dataclass(frozen=True)
class Submitted:
    """A form that was sent: the control it names, where to go then, and its fields."""

    do: str
    form: str
    next: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def values(self) -> dict[str, list[str]]:
        values: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in self.pairs:
            values[name].append(value)
        return dict(values)


@dataclass(frozen=True)
class Outcome:
    """What came of a form, for the page that comes again: a refusal, or a `result` to show."""

    submitted: Submitted
    error: ClerkError | None = None
    result: Any = None

    @property
    def message(self) -> str | None:
        """The refusal in plain words."""
        if self.error is None:
            return None
        text = self.error.message
        if self.error.param and "_" in self.error.param:
            text = text.replace(self.error.param, self.error.param.replace("_", " "))
        return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class FormState:
    """What a template asks about one of its forms: what was typed, when it was refused."""

    id: str
    values: dict[str, list[str]] = field(default_factory=dict)
    param: str | None = None
    refused: bool = False

    def value(self, name: str, default: object = "") -> object:
        return self.values[name][-1] if name in self.values else default

    def is_chosen(self, name: str, value: str, default: bool) -> bool:
        return value in self.values.get(name, ()) if self.refused else default

    def is_wrong(self, name: str) -> bool:
        return self.refused and self.param == name.removesuffix("[]")


def create_page(controls: Controls, bundles: Bundles) -> Starlette:
    """To be mounted at `/`, after everything else."""
    assets = Assets(bundles)
    routes = [
        Route(path, _endpoint(controls, assets, page), methods=["GET", "POST"]) for path, page in views.PAGES.items()
    ]
    return Starlette(routes=[Route("/assets/{name}", assets.serve), *routes, Route("/{path:path}", _endpoint_of_none)])


async def _endpoint_of_none(request: Request) -> Response:
    return _refuse(ClerkError(404, "resource_not_found", "There is no such page."))


def _endpoint(controls: Controls, assets: Assets, page: views.Page) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            check_local(request)
            if request.method != "POST":
                return await show(request)
            check_own_form(request)
            submitted = _read(await read_body(request))
        except ClerkError as error:
            return _refuse(error)
        try:
            action, path = find_action(submitted.do)
            result = controls.use(action, path, ControlForm.from_pairs(submitted.pairs))
        except ClerkError as error:
            return await show(request, Outcome(submitted, error))
        if submitted.next == "show":
            return await show(request, Outcome(submitted, result=result))
        return RedirectResponse(_target(request, submitted, result), 303, headers=_HEADERS)

    async def show(request: Request, outcome: Outcome | None = None) -> Response:
        query = ControlForm.from_pairs(request.query_params.multi_items())
        call = Call(controls, dict(request.path_params), query)
        try:
            context = page.build(call) | _shared(request, call, outcome)
        except ClerkError as error:
            return _refuse(error)
        live = _render(page.live, context) if page.live else ""
        version = hashlib.blake2b(live.encode(), digest_size=8).hexdigest()
        asks_again = request.headers.get("hx-trigger") == "live"  # the forms and links in it inherit its header
        if asks_again and request.headers.get("known-version") == version:
            return Response(status_code=204)
        context |= {"live": Markup(live) if page.live else None, "version": version}
        if asks_again:
            return HTMLResponse(_render("live.html", context), headers=_HEADERS)
        context["missing"] = await assets.missing()
        status = outcome.error.status if outcome and outcome.error else 200
        return HTMLResponse(_render(page.template, context), status, headers=_HEADERS)

    return answer


def _shared(request: Request, call: Call, outcome: Outcome | None) -> Json:
    """What every template may use."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return {
        "here": here,
        "path": request.url.path,
        "outcome": outcome,
        "form_state": lambda id: _form_state(id, outcome),
        "app_url": call.controls.app_url,
        "roles": list(call.state.roles.values()),
        "usual_role": call.state.settings.domains_default_role,
        "slugs_on": call.state.settings.slugs,
        "usual_limit": call.state.settings.max_allowed_memberships,
    }


def _form_state(id: str, outcome: Outcome | None) -> FormState:
    if outcome is None or outcome.submitted.form != id:
        return FormState(id)
    param = outcome.error.param if outcome.error else None
    return FormState(id, outcome.submitted.values, param, refused=outcome.error is not None)


def _read(raw: bytes) -> Submitted:
    pairs = parse_qsl(raw.decode(errors="replace"), keep_blank_values=True)
    special = {name: value for name, value in pairs if name in _SPECIAL}
    rest = tuple(pair for pair in pairs if pair[0] not in _SPECIAL)
    return Submitted(special.get("_do", ""), special.get("_form", ""), special.get("_next", ""), rest)


def _target(request: Request, submitted: Submitted, result: Json | str) -> str:
    """Back to the page; or to a page of ours, where `{id}` is what the control answered; or to the app."""
    found = result if isinstance(result, dict) else {}
    if submitted.next == "url" and "url" in found:
        return str(found["url"])
    if re.fullmatch(r"(/[\w{}-]+)+|/", submitted.next, re.ASCII):
        return submitted.next.replace("{id}", str(found.get("id", "")))
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _refuse(error: ClerkError) -> Response:
    return HTMLResponse(_render("refused.html", {"message": error.message}), error.status, headers=_HEADERS)


def _render(template: str, context: Json) -> str:
    return _templates().get_template(template).render(context)


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tenantry.emulator.control"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
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
