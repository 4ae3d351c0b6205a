"""What a server-rendered page tells the browser: Clerk's scripts and components as HTML tags, and whom it was made for.

The tags hold no inline script. `tenantry.js`, which `Page.scripts` loads, mounts the components and keeps the page in
step with Clerk: see `static/tenantry.js`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from tenantry.errors import ConfigurationError
from tenantry.settings import Settings

_Attributes = Mapping[str, str | bool | None]

SCRIPT_PATH = "/tenantry.js"
_CLERK_JS = "npm/@clerk/clerk-js@6/dist/clerk.browser.js"
_CLERK_UI = "npm/@clerk/ui@1/dist/ui.browser.js"
_TURNSTILE = "https://challenges.cloudflare.com"  # Clerk's protection of sign-ups against bots
_IMAGES = "https://img.clerk.com"


class SafeHtml(str):
    """HTML that is escaped already, as Jinja, MarkupSafe and others recognise it."""

    __slots__ = ()

    def __html__(self) -> SafeHtml:
        return self


@dataclass(frozen=True, kw_only=True)
class Page:
    """The tags of one page, made for a user in an organization; in their personal account, or for nobody, with None.

    A component's properties are Clerk's own, named as Clerk names them: `afterSelectOrganizationUrl`, `hidePersonal`,
    `appearance`. What JSON cannot say, a function, raises TypeError.
    """

    settings: Settings
    user_id: str | None = None
    organization_id: str | None = None
    root_path: str = ""

    def scripts(
        self, *, on_switch: str = "reload", messages: Mapping[str, str] | None = None, **options: Any
    ) -> SafeHtml:
        """The three scripts of a page, for its head. Raises ConfigurationError without a publishable key.

        `on_switch`: what follows when another organization becomes active: `reload`, a path like `/orgs/:id` or
        `/orgs/:slug`, or `event` for a page that updates itself. `messages` replaces sentences of the notices, and
        `options` are those of `Clerk.load`.
        """
        key, place = self.settings.publishable_key, self._below_root(_scripts_place(self.settings))
        if key is None or place is None:
            raise ConfigurationError(
                "A page with Clerk's components needs CLERK_PUBLISHABLE_KEY.",
                hint="Copy it from the API keys page of the Clerk dashboard.",
            )
        if on_switch not in ("reload", "event") and (not on_switch.startswith("/") or on_switch.startswith("//")):
            raise ConfigurationError(
                f"on_switch={on_switch!r} is neither 'reload', 'event' nor a path.", hint="Write it like '/orgs/:id'."
            )
        loaded: _Attributes = {"crossorigin": "anonymous", "defer": True}
        clerk: _Attributes = {
            "data-clerk-publishable-key": key,
            "data-clerk-proxy-url": self._below_root(self.settings.proxy_url),
            "src": f"{place}/{_CLERK_JS}",
        }
        ours: _Attributes = {
            "type": "module",
            "src": f"{self.root_path}{SCRIPT_PATH}",
            "data-tenantry": True,
            "data-user-id": self.user_id or "",
            "data-organization-id": self.organization_id or "",
            "data-session-cookie": f"__session_{self.settings.cookie_suffix}",
            "data-on-switch": on_switch,
            "data-messages": json.dumps(messages) if messages else None,
            "data-clerk-options": json.dumps(self._options() | options),
        }
        scripts = ({**loaded, **clerk}, {**loaded, "src": f"{place}/{_CLERK_UI}"}, ours)
        return SafeHtml("\n".join(_tag("script", attributes) for attributes in scripts))

    def organization_switcher(self, **props: Any) -> SafeHtml:
        return self.component("OrganizationSwitcher", **props)

    def organization_profile(self, **props: Any) -> SafeHtml:
        return self.component("OrganizationProfile", **props)

    def organization_list(self, **props: Any) -> SafeHtml:
        return self.component("OrganizationList", **props)

    def create_organization(self, **props: Any) -> SafeHtml:
        return self.component("CreateOrganization", **props)

    def sign_in(self, **props: Any) -> SafeHtml:
        return self.component("SignIn", **props)

    def sign_up(self, **props: Any) -> SafeHtml:
        return self.component("SignUp", **props)

    def user_button(self, **props: Any) -> SafeHtml:
        return self.component("UserButton", **props)

    def user_profile(self, **props: Any) -> SafeHtml:
        return self.component("UserProfile", **props)

    def component(self, name: str, **props: Any) -> SafeHtml:
        """The place of any of Clerk's components: what clerk-js mounts with `mount<name>`."""
        return _tag("div", {"data-clerk-component": name, "data-clerk-props": _json(props)})

    def create_organization_button(self, label: str, **props: Any) -> SafeHtml:
        """A button that opens CreateOrganization; hidden until it is known that its person may create one."""
        attributes: _Attributes = {
            "type": "button",
            "hidden": True,
            "data-clerk-open": "CreateOrganization",
            "data-clerk-props": _json(props),
        }
        return _tag("button", attributes, label)

    def _below_root(self, place: str | None) -> str | None:
        """A path as the browser has to ask for it, where the app is mounted below another; an address as it is."""
        return f"{self.root_path}{place}" if place and place.startswith("/") else place

    def _options(self) -> dict[str, Any]:
        urls = {"signInUrl": self.settings.sign_in_url, "signUpUrl": self.settings.sign_up_url}
        return {"telemetry": False} | {name: url for name, url in urls.items() if url}


def content_security_policy(settings: Settings, also: Mapping[str, Iterable[str]] | None = None) -> str:
    """The `Content-Security-Policy` of pages with these tags; `also` adds sources of your own by directive.

    Clerk's components write style elements, so styles cannot be strict; scripts are.
    """
    clerk = _origins(_scripts_place(settings))
    policy: dict[str, tuple[str, ...]] = {
        "default-src": ("'self'",),
        "script-src": ("'self'", *clerk, _TURNSTILE),
        "connect-src": ("'self'", *clerk),
        "img-src": ("'self'", "data:", "blob:", _IMAGES),
        "style-src": ("'self'", "'unsafe-inline'"),
        "worker-src": ("'self'", "blob:"),
        "frame-src": ("'self'", _TURNSTILE),
        "form-action": ("'self'",),
        "base-uri": ("'self'",),
        "object-src": ("'none'",),
    }
    for directive, sources in (also or {}).items():
        policy[directive] = (*policy.get(directive, ()), *sources)
    return "; ".join(" ".join((name, *dict.fromkeys(sources))) for name, sources in policy.items())


def _scripts_place(settings: Settings) -> str | None:
    """Where this instance's scripts come from; None without a publishable key."""
    if settings.proxy_url:
        return settings.proxy_url
    return f"https://{settings.frontend_host}" if settings.frontend_host else None


def _origins(place: str | None) -> tuple[str, ...]:
    """The origin of a place, unless it is the app's own."""
    return () if place is None or place.startswith("/") else ("/".join(place.split("/")[:3]),)


def _json(props: Mapping[str, Any]) -> str | None:
    return json.dumps(props) if props else None


def _tag(name: str, attributes: _Attributes, text: str = "") -> SafeHtml:
    written = "".join(
        f" {attribute}" if value is True else f' {attribute}="{escape(value)}"'
        for attribute, value in attributes.items()
        if value is not None and value is not False
    )
    return SafeHtml(f"<{name}{written}>{escape(text)}</{name}>")
