"""A small server-rendered app with the switcher: each page and each answer says for whom the server made it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from tenantry.browser import content_security_policy
from tenantry.errors import NotAMember
from tenantry.identity import Identity
from tenantry.settings import Settings
from tenantry.starlette import Tenantry, request_identity, request_scope

LAYOUT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Site</title>
<link rel="icon" href="data:,">
{{ clerk.scripts(**options) }}
{% block head %}{% endblock %}
<header>
  {{ clerk.organization_switcher(hidePersonal=false, **switcher) }}
  {{ clerk.user_button() }}
  {{ clerk.create_organization_button("New organization") }}
  <button type="button" data-clerk-sign-out>Sign out</button>
</header>
<main>
  {% block main %}<p id="data">Data of {{ shown }}</p><p style="visibility: visible">More of {{ shown }}</p>
  {% endblock %}
</main>
</html>"""

TEMPLATES = {
    "layout.html": LAYOUT,
    "form.html": """{% extends "layout.html" %}{% block main %}<p id="data">Data of {{ shown }}</p>
        <form method="post" action="/save?x=1"><input name="text"><button name="how" value="now">Save</button></form>
        {% endblock %}""",
    "forms.html": """{% extends "layout.html" %}{% block head %}<script type="module" src="/forms.js"></script>
        {% endblock %}{% block main %}<p id="data">Data of {{ shown }}</p>
        <form id="once" method="post" action="/save?flag&q=a%20b"><input name="text" value="once">
          <button>Save</button></form>
        <form id="select" method="post" action="/save"><select name="text"><option>a<option>b</select></form>
        {% endblock %}""",
    "bare.html": """{{ clerk.scripts() }}<link rel="icon" href="data:,">{{ clerk.organization_switcher() }}
        <p id="data">Data of {{ shown }}</p>""",
    "event.html": """{% extends "layout.html" %}{% block head %}<script type="module" src="/page.js"></script>
        {% endblock %}""",
    "htmx.html": """{% extends "layout.html" %}
        {% block head %}<script src="/htmx-{{ version }}.js"></script>{% endblock %}
        {% block main %}<div id="data" hx-get="/part" hx-trigger="tenantry:switched from:body, ask">Data of {{ shown }}
        </div>{% endblock %}""",
    "late.html": """{% extends "htmx.html" %}{% block main %}
        <p id="data" hx-get="/part" hx-trigger="tenantry:switched from:body">Data of {{ shown }}</p>
        <p id="late" hx-get="/part" hx-trigger="tenantry:switched from:body" hx-swap="innerHTML swap:600ms">Data of
        {{ shown }}</p>{% endblock %}""",
    "kept.html": """{% extends "htmx.html" %}{% block main %}
        <p id="data" hx-get="/part" hx-trigger="tenantry:switched from:body">Data of {{ shown }}</p>
        <button id="next" hx-get="/part" hx-target="#data" hx-push-url="/other">Next</button>{% endblock %}""",
}

PAGE_JS = """
import { fetch } from "/tenantry.js";
document.body.addEventListener("tenantry:switched", (event) => {
  event.detail.waitUntil(fetch("/part").then(async (answer) => {
    if (!answer.ok) throw new Error("no part");
    document.querySelector("main").innerHTML = `<p id="data">${await answer.text()}</p>`;
  }));
});
"""


FORMS_JS = """
window.seen = 0;
document.getElementById("once").addEventListener("submit", (event) => {
  sessionStorage.seen = seen += 1;
  if (seen > 1) event.preventDefault(); // the usual guard against a double click
});
document.getElementById("select").text.addEventListener("change", (event) => event.target.form.submit());
"""


class Site:
    """The app, what it was asked, and what it is told to do: `delay` pages and parts, or refuse as to a non-member."""

    def __init__(self, settings: Settings, htmx: dict[int, Path] | None = None) -> None:
        self.tenancy = Tenantry(settings)
        self.saved: list[tuple[str | None, str]] = []
        self.queries: list[str] = []
        self.asked: list[tuple[str, str | None]] = []
        self.delay = 0.0
        self.is_removed = False
        self._htmx = htmx or {}
        self._policy = content_security_policy(settings)
        self._templates = Jinja2Templates(
            env=Environment(loader=DictLoader(TEMPLATES), autoescape=True),
            context_processors=[self.tenancy.template_context],
        )

    def app(self) -> Starlette:
        routes = [
            Route("/", self._page("layout.html")),
            Route("/other", self._page("layout.html")),
            Route("/direct", self._page("layout.html", switcher={"afterSelectOrganizationUrl": "/other?org=:id"})),
            Route("/bare", self._page("bare.html")),
            Route("/form", self._page("form.html")),
            Route("/forms", self._page("forms.html")),
            Route("/forms.js", self._send_forms_js),
            Route("/orgs/{org}", self._page("layout.html", options={"on_switch": "/orgs/:id"})),
            Route("/event", self._page("event.html", options={"on_switch": "event"})),
            Route("/htmx-{version:int}", self._page("htmx.html", options={"on_switch": "event"})),
            Route("/late-{version:int}", self._page("late.html", options={"on_switch": "event"})),
            Route("/kept-{version:int}", self._page("kept.html", options={"on_switch": "event"})),
            Route("/htmx-{version:int}.js", self._send_htmx),
            Route("/page.js", self._send_page_js),
            Route("/part", self._part),
            Route("/save", self._save, methods=["POST"]),
        ]
        app = Starlette(routes=routes, lifespan=self._lifespan)
        self.tenancy.install(app)
        return app

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Ends what the site has open to the emulator, as Tenantry's own does, which asks for a database."""
        yield
        if self.tenancy.frontend:
            await self.tenancy.frontend.close()

    def _page(self, name: str, **context: Any) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            identity = request_scope(request).identity
            self.asked.append((request.url.path, identity.org_id if identity else None))
            await asyncio.sleep(self.delay)
            shown = _name(identity)
            options = {"switcher": {}, "options": {}, **request.path_params, **context, "shown": shown}
            headers = {"Content-Security-Policy": self._policy, "Cache-Control": "no-cache"}
            return self._templates.TemplateResponse(request, name, options, headers=headers)

        return show

    async def _part(self, request: Request) -> Response:
        identity = self._enter(request)
        self.asked.append((request.url.path, identity.org_id))
        await asyncio.sleep(self.delay)
        return PlainTextResponse(f"Data of {_name(identity)}")

    async def _save(self, request: Request) -> Response:
        form = await request.form()
        identity = self._enter(request)
        self.queries.append(request.url.query)
        self.saved.append((identity.org_id, f"{form['text']} {form.get('how', '')}".strip()))
        return RedirectResponse("/form", status_code=303)

    def _enter(self, request: Request) -> Identity:
        """Refuses as a transaction would."""
        scope = request_scope(request)
        identity = request_identity(request)
        if scope.error is not None:
            raise scope.error
        if self.is_removed:
            raise NotAMember
        return identity

    async def _send_htmx(self, request: Request) -> Response:
        source = self._htmx[request.path_params["version"]].read_text()
        return Response(source, media_type="text/javascript")

    async def _send_page_js(self, request: Request) -> Response:
        return Response(PAGE_JS, media_type="text/javascript")

    async def _send_forms_js(self, request: Request) -> Response:
        return Response(FORMS_JS, media_type="text/javascript")


def _name(identity: Identity | None) -> str:
    return "nobody" if identity is None else identity.org_slug or identity.org_id or "personal"
