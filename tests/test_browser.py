"""The tags of a page: Clerk's own properties in, HTML out, nothing inline; and the settings they are made from."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader, Environment
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.templating import Jinja2Templates

from instance import signer, token
from signer import ISSUER, ORIGIN
from tenantry.browser import Page, SafeHtml, content_security_policy
from tenantry.errors import ConfigurationError
from tenantry.settings import Settings
from tenantry.starlette import Tenantry, request_scope

HOST = "happy-otter-12.clerk.accounts.dev"
KEY = "pk_test_" + base64.b64encode(f"{HOST}$".encode()).decode()
SETTINGS = Settings(publishable_key=KEY)
PROXIED = Settings(publishable_key=KEY, proxy_url="/__clerk")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Reader(HTMLParser):
    """The elements of a text, as a browser reads them: name, attributes, text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_data(self, data: str) -> None:
        if data.strip() and self.elements:
            self.elements[-1][2].append(data)


def read(html: str) -> list[tuple[str, dict[str, str | None], list[str]]]:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader.elements


def scripts(settings: Settings = SETTINGS, **options: Any) -> list[dict[str, str | None]]:
    return [attributes for _, attributes, _ in read(Page(settings=settings).scripts(**options))]


@given(props=st.dictionaries(st.text().filter(lambda name: name not in ("self", "name")), json_values, max_size=4))
def test_every_property_reaches_the_component_unchanged(props: dict[str, Any]) -> None:
    ((tag, attributes, text),) = read(Page(settings=SETTINGS).component("OrganizationSwitcher", **props))
    assert (tag, attributes["data-clerk-component"], text) == ("div", "OrganizationSwitcher", [])
    assert json.loads(attributes.get("data-clerk-props") or "{}") == props


@given(st.text(min_size=1).filter(lambda label: label.strip() and "\r" not in label and "\0" not in label))
def test_a_label_is_text_whatever_it_holds(label: str) -> None:
    ((tag, attributes, text),) = read(Page(settings=SETTINGS).create_organization_button(label))
    assert (tag, attributes["data-clerk-open"], "".join(text)) == ("button", "CreateOrganization", label)


@pytest.mark.parametrize(
    ("method", "component"),
    [
        ("organization_switcher", "OrganizationSwitcher"),
        ("organization_profile", "OrganizationProfile"),
        ("organization_list", "OrganizationList"),
        ("create_organization", "CreateOrganization"),
        ("sign_in", "SignIn"),
        ("sign_up", "SignUp"),
        ("user_button", "UserButton"),
        ("user_profile", "UserProfile"),
    ],
)
def test_each_tag_is_the_component_of_its_name(method: str, component: str) -> None:
    assert f'data-clerk-component="{component}"' in getattr(Page(settings=SETTINGS), method)()


def test_a_property_that_json_cannot_say_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        Page(settings=SETTINGS).sign_in(afterSignIn=lambda: None)


def test_the_scripts_come_from_the_instances_own_host() -> None:
    clerk, ui, ours = scripts()
    assert clerk["src"] == f"https://{HOST}/npm/@clerk/clerk-js@6/dist/clerk.browser.js"
    assert ui["src"] == f"https://{HOST}/npm/@clerk/ui@1/dist/ui.browser.js"
    assert clerk["data-clerk-publishable-key"] == KEY
    assert "data-clerk-proxy-url" not in clerk
    assert (ours["type"], ours["src"]) == ("module", "/tenantry.js")


def test_the_scripts_come_through_the_proxy_where_there_is_one() -> None:
    clerk, ui, _ = scripts(PROXIED)
    assert clerk["src"] == "/__clerk/npm/@clerk/clerk-js@6/dist/clerk.browser.js"
    assert clerk["data-clerk-proxy-url"] == "/__clerk"
    assert ui["src"] == "/__clerk/npm/@clerk/ui@1/dist/ui.browser.js"


def test_the_proxy_of_an_app_below_a_path_is_below_it_too() -> None:
    clerk, ui, _ = (found for _, found, _ in read(Page(settings=PROXIED, root_path="/below").scripts()))
    assert clerk["src"] == "/below/__clerk/npm/@clerk/clerk-js@6/dist/clerk.browser.js"
    assert clerk["data-clerk-proxy-url"] == "/below/__clerk"
    assert ui["src"] == "/below/__clerk/npm/@clerk/ui@1/dist/ui.browser.js"
    elsewhere = Settings(publishable_key=KEY, proxy_url="https://app.example/__clerk")
    clerk = read(Page(settings=elsewhere, root_path="/below").scripts())[0][1]
    assert clerk["data-clerk-proxy-url"] == "https://app.example/__clerk"


def test_the_script_is_told_for_whom_the_page_is_made() -> None:
    page = Page(settings=SETTINGS, user_id="user_1", organization_id="org_1", root_path="/app")
    ours = read(page.scripts(on_switch="/orgs/:id"))[-1][1]
    assert (ours["data-user-id"], ours["data-organization-id"]) == ("user_1", "org_1")
    assert (ours["src"], ours["data-on-switch"]) == ("/app/tenantry.js", "/orgs/:id")
    assert ours["data-session-cookie"] == f"__session_{SETTINGS.cookie_suffix}"
    nobody = read(Page(settings=SETTINGS).scripts())[-1][1]
    assert (nobody["data-user-id"], nobody["data-organization-id"]) == ("", "")


def test_options_are_those_of_clerk_and_win_over_the_settings() -> None:
    settings = Settings(publishable_key=KEY, sign_in_url="/sign-in", sign_up_url="/sign-up")
    ours = scripts(settings, signInUrl="/enter", localization={"locale": "de"})[-1]
    assert json.loads(ours["data-clerk-options"] or "") == {
        "telemetry": False,
        "signInUrl": "/enter",
        "signUpUrl": "/sign-up",
        "localization": {"locale": "de"},
    }


def test_no_script_is_inline() -> None:
    assert all(attributes.get("src") and not text for _, attributes, text in read(Page(settings=SETTINGS).scripts()))


def test_without_a_publishable_key_the_error_names_it() -> None:
    with pytest.raises(ConfigurationError, match="CLERK_PUBLISHABLE_KEY"):
        Page(settings=Settings()).scripts()


@pytest.mark.parametrize("on_switch", ["", "orgs/:id", "//elsewhere.example", "https://elsewhere.example"])
def test_what_follows_a_switch_is_on_this_site(on_switch: str) -> None:
    with pytest.raises(ConfigurationError, match="on_switch"):
        Page(settings=SETTINGS).scripts(on_switch=on_switch)


def test_templates_take_the_tags_as_html() -> None:
    template = Environment(autoescape=True).from_string("{{ tag }}")
    tag = Page(settings=SETTINGS).organization_switcher(hidePersonal=True)
    assert isinstance(tag, SafeHtml)
    assert template.render(tag=tag) == str(tag)


def test_the_policy_names_the_instance_and_nothing_inline_but_styles() -> None:
    policy = content_security_policy(SETTINGS, {"img-src": ["https://cdn.example"], "report-to": ["csp"]})
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["script-src"] == f"'self' https://{HOST} https://challenges.cloudflare.com"
    assert directives["connect-src"] == f"'self' https://{HOST}"
    assert directives["img-src"].split()[-1] == "https://cdn.example"
    assert directives["report-to"] == "csp"
    assert [name for name, sources in directives.items() if "unsafe" in sources] == ["style-src"]
    assert HOST not in content_security_policy(PROXIED)


# --- in an app --------------------------------------------------------------------------------------------------------


def client(**changes: Any) -> httpx.AsyncClient:
    """Of an app whose page `/` has the scripts, `/whose` tells for whom a request is and why it is refused."""
    given = {
        "publishable_key": KEY,
        "jwt_key": signer().pem,
        "issuers": (ISSUER,),
        "authorized_parties": frozenset({ORIGIN}),
        "database_url": "postgresql://nobody@127.0.0.1:1/nothing",  # nothing here asks it
    }
    tenancy = Tenantry(Settings(**{**given, **changes}))
    templates = Jinja2Templates(
        env=Environment(loader=DictLoader({"page": "{{ clerk.scripts() }}"}), autoescape=True),
        context_processors=[tenancy.template_context],
    )

    async def page(request: Request) -> Response:
        return templates.TemplateResponse(request, "page")

    async def whose(request: Request) -> Response:
        scope = request_scope(request)
        return JSONResponse([scope.identity and scope.identity.org_id, scope.error and scope.error.code])

    app = Starlette(routes=[Route("/", page), Route("/whose", whose, methods=["GET", "POST"])])
    tenancy.install(app)
    mounted = Starlette(routes=[Mount("/below", app), Mount("/", app)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(mounted), base_url="http://app.test")


async def test_a_page_is_made_for_whom_the_token_names() -> None:
    async with client() as asking:
        answer = await asking.get("/", headers={"Authorization": f"Bearer {token('user_1', 'org_1')}"})
        assert 'data-user-id="user_1" data-organization-id="org_1"' in answer.text
        assert 'data-user-id="" data-organization-id=""' in (await asking.get("/")).text


async def test_an_app_below_a_path_serves_the_script_there() -> None:
    async with client() as asking:
        assert 'src="/below/tenantry.js"' in (await asking.get("/below/")).text
        assert (await asking.get("/below/tenantry.js")).status_code == 200


async def test_the_script_is_served_with_its_type_and_asked_for_again_only_when_changed() -> None:
    async with client() as asking:
        answer = await asking.get("/tenantry.js")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        again = await asking.get("/tenantry.js", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("org", "query", "code"),
    [
        ("org_1", "tenantry_expected_org=org_1", None),
        ("org_1", "tenantry_expected_org=slug-of-org_1", None),
        ("org_1", "a=b", None),
        ("org_1", "tenantry_expected_org=org_2", "organization_mismatch"),
        ("org_1", "tenantry_expected_org=", "organization_mismatch"),
        ("org_1", "tenantry_expected_org=org_1&tenantry_expected_org=org_2", "organization_mismatch"),
        ("org_1", "x=%ff&tenantry_expected_org=%ff%00", "organization_mismatch"),
        (None, "tenantry_expected_org=org_1", "organization_mismatch"),
    ],
)
async def test_a_query_states_the_organization_it_expects_and_chooses_none(
    org: str | None, query: str, code: str | None
) -> None:
    async with client(personal_accounts="allow") as asking:
        headers = {"Authorization": f"Bearer {token('user_1', org)}"}
        answer = await asking.post(f"/whose?{query}", headers=headers)
    assert answer.json() == [org, code]


async def test_an_empty_statement_in_the_query_means_the_personal_account() -> None:
    async with client(personal_accounts="allow") as asking:
        headers = {"Authorization": f"Bearer {token('user_1', None)}"}
        answer = await asking.get("/whose?tenantry_expected_org=", headers=headers)
    assert answer.json() == [None, None]


# --- settings ---------------------------------------------------------------------------------------------------------


def test_the_frontends_variables_are_read() -> None:
    environ = {
        "CLERK_PUBLISHABLE_KEY": KEY,
        "CLERK_PROXY_URL": "/__clerk/",
        "CLERK_SIGN_IN_URL": "/sign-in?from=app",
        "CLERK_SIGN_UP_URL": "https://accounts.example.com/sign-up",
        "TENANTRY_EMULATOR_URL": "http://127.0.0.1:4010/",
    }
    settings = Settings.from_env(environ)
    assert settings.proxy_url == "/__clerk"
    assert (settings.sign_in_url, settings.sign_up_url) == ("/sign-in?from=app", "https://accounts.example.com/sign-up")
    assert (settings.emulator_url, settings.frontend_host) == ("http://127.0.0.1:4010", HOST)


def test_beside_an_emulator_the_proxy_is_the_apps_own() -> None:
    assert Settings(emulator_url="http://127.0.0.1:4010").proxy_url == "/__clerk"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("CLERK_PROXY_URL", "/"),
        ("CLERK_PROXY_URL", "//elsewhere.example"),
        ("CLERK_PROXY_URL", "/__clerk?x"),
        ("CLERK_PROXY_URL", "__clerk"),
        ("CLERK_SIGN_IN_URL", "javascript:alert(1)"),
        ("CLERK_SIGN_UP_URL", '/sign-up"><script>'),
        ("TENANTRY_EMULATOR_URL", "http://10.0.0.8:4010"),
        ("TENANTRY_EMULATOR_URL", "https://127.0.0.1:4010"),
        ("TENANTRY_EMULATOR_URL", "http://127.0.0.1:4010/path"),
        ("TENANTRY_EMULATOR_URL", "http://127.0.0.1.elsewhere.example"),
    ],
)
def test_an_address_that_cannot_be_is_refused_by_its_variable(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_env({variable: text})


def test_an_emulator_beside_a_live_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="live"):
        Settings.from_env({"CLERK_SECRET_KEY": "sk_live_x", "TENANTRY_EMULATOR_URL": "http://127.0.0.1:4010"})
