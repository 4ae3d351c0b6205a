"""The Next.js example in a real browser, built for production: two apps in two languages on one database."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Request, Route, expect

from browser import nextjs
from browser.conftest import Contexts
from browser.nextjs import Web
from browser.stage import (
    CHOICE,
    PASSWORD,
    SWITCHER,
    USER_BUTTON,
    WATCH,
    Person,
    Visitor,
    holding_webhooks,
    slow_answer,
)
from conftest import lack
from databases import ANY, APP, OWNER, SUPERUSER, Database, Server
from examples.deployment import deploy
from sql.mirror import Mirror
from tenantry import schema
from tenantry.emulator.bundles import Bundles, BundleUnavailable

pytestmark = pytest.mark.requires("chromium", "node", "npm")

PROBES = Path(__file__).parent / "nextjs_probes"


class Tab(Visitor):
    """Somebody's tab on the Next.js example."""

    stage: Web

    async def turn_to(self, organization: str, name: str) -> None:
        await self.open(f"/orgs/{organization}")
        await self.sees_library_of(name)

    async def enter(self, person: Person, organization: str = "") -> None:
        """Signed in by a link as in an e-mail, then at the page of the organization, by id."""
        await super().enter(person)
        if organization:
            await self.open(f"/orgs/{organization}")
            await self.sees_library_of("")

    async def open_tab(self) -> Tab:
        return Tab(await self.page.context.new_page(), self.stage)

    async def switch(self, organization: str) -> None:
        await self.page.locator(SWITCHER).click()
        await self.page.locator(CHOICE, has_text=organization).click()
        await self.sees_library_of(organization)


@pytest.fixture(scope="module")
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    server = servers(ANY)
    made = server.create()
    with made.connect(SUPERUSER) as connection:
        schema.install(connection, app_roles=[APP, OWNER])
    yield made
    server.drop(made)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nextjs.build("documents-web", tmp_path_factory, PROBES)


@pytest.fixture(scope="module")
def web(built: Path, database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    try:
        Bundles().prefetch()
    except BundleUnavailable as error:
        lack(f"Clerk's scripts cannot be had: {error}")
    with deploy(database, settings={"membership_required": False}) as deployment:
        emulator, clerk_url = deployment.clerk.emulator, deployment.clerk.url
        variables = emulator.instance.nextjs_environment(clerk_url) | {
            "DATABASE_URL": database.dsn(APP),
            "TENANTRY_EMULATOR_URL": clerk_url,
        }
        port = nextjs.free_port()
        emulator.webhooks.endpoints.clear()
        emulator.webhooks.add_endpoint(
            f"http://localhost:{port}/api/webhooks/clerk", secret=variables["CLERK_WEBHOOK_SIGNING_SECRET"]
        )
        with nextjs.serve(built, tmp_path_factory.mktemp("served") / "web", port, variables) as url:
            yield Web(deployment, url)


@pytest_asyncio.fixture(loop_scope="session")
async def tab(new_context: Contexts, web: Web) -> AsyncIterator[Tab]:
    context = await new_context()
    yield Tab(await context.new_page(), web)


async def test_somebody_signs_in_chooses_an_organization_and_reads_what_fastapi_wrote(tab: Tab, web: Web) -> None:
    ada = web.person("Ada")
    acme = web.organization("Acme", ada)
    web.organization("Globex", ada)
    web.write(ada, acme, "Plans of Acme")
    page = tab.page
    await tab.open()
    await page.get_by_role("banner").get_by_role("link", name="Sign in").click()
    await page.locator("input[name=identifier]").fill(ada.email)
    await page.get_by_role("button", name="Continue", exact=True).click()
    await page.locator("input[name=password]").fill(PASSWORD)
    await page.get_by_role("button", name="Continue", exact=True).click()
    await expect(page.get_by_role("heading", name="Your organizations")).to_be_visible()
    await page.get_by_role("main").get_by_role("button", name="Acme").click()
    await tab.sees_library_of("Acme")
    await page.get_by_role("link", name="Plans of Acme").click()
    await expect(page.get_by_role("heading", name="Plans of Acme")).to_be_visible()
    await expect(page.locator(".facts")).to_contain_text("Ada")
    await expect(page.locator(".facts")).to_contain_text("3 words")


async def test_an_organization_works_before_its_webhook_and_fastapi_reads_what_is_written(tab: Tab, web: Web) -> None:
    kay = web.person("Kay")
    acme = web.organization("Acme", kay)
    await tab.enter(kay, acme)
    page, name = tab.page, f"Fresh {uuid4().hex[:6]}"
    with holding_webhooks(web):
        await page.locator(SWITCHER).click()
        await page.get_by_role("button", name="Create organization").click()
        await page.locator("input[name=name]").fill(name)
        await page.get_by_role("button", name="Create organization").last.click()
        await page.get_by_role("button", name="Skip").click()  # nobody is invited
        await page.wait_for_url(re.compile(f"/orgs/org_(?!{acme.removeprefix('org_')})"))
        await tab.sees_library_of("Your organization")  # the name comes with the webhook
        await tab.write("Before the webhook")
    fresh = page.url.split("/orgs/")[1].split("/")[0]
    await tab.open(f"/orgs/{fresh}")
    await tab.sees_library_of(name)
    assert web.titles(kay, fresh) == ["Before the webhook"]
    assert web.titles(kay, acme) == []


# --- switching --------------------------------------------------------------------------------------------------------


async def test_a_switch_never_shows_old_rows_under_the_new_name(tab: Tab, web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    page, frames = tab.page, list[str]()
    await tab.enter(ada, acme)
    await expect(page.locator(SWITCHER)).to_have_text("Acme")
    await page.expose_binding("tell", lambda source, frame: frames.append(frame))
    await tab.run(WATCH)
    async with slow_answer(page, f"/orgs/{globex}", frames):
        await page.locator(SWITCHER).click()
        await page.locator(CHOICE, has_text="Globex").click()
    await tab.sees_library_of("Globex")
    await expect(page.get_by_role("link", name="Plans of Globex")).to_be_visible()
    assert page.url == f"{web.url}/orgs/{globex}"
    assert "Acme: Plans of Acme" in frames
    assert "Globex: Plans of Acme" not in frames
    assert (await tab.token())["o"]["id"] == globex


async def test_after_a_switch_the_back_button_shows_nothing_of_the_old_one_under_the_new_name(
    tab: Tab, web: Web
) -> None:
    ada, acme, _ = write_in_two_organizations(web)
    page, frames = tab.page, list[str]()
    await tab.enter(ada, acme)
    await page.expose_binding("tell", lambda source, frame: frames.append(frame))
    await tab.run(WATCH)
    await page.get_by_role("link", name="Plans of Acme").click()
    await expect(page.get_by_role("heading", name="Plans of Acme")).to_be_visible()
    await tab.switch("Globex")
    await page.go_back()  # to the document, or its list: the switch takes the document's place, or comes after it
    await expect(page.locator(SWITCHER)).to_have_text("Acme")
    await expect(page.get_by_text("Plans of Acme").filter(visible=True).first).to_be_visible()
    assert "Globex: Plans of Globex" in frames
    assert "Globex: Plans of Acme" not in frames


async def test_two_tabs_in_two_organizations_do_not_mix(tab: Tab, web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    await tab.enter(ada, acme)
    other = await tab.open_tab()
    await other.turn_to(globex, "Globex")
    for one in (tab, other):
        await one.share_focus()
    for one, organization in ((tab, "Acme"), (other, "Globex")):
        await one.come_to_front()
        await one.write(f"Of {organization}")
        await one.page.get_by_role("link", name="All documents").click()
        await one.sees_library_of(organization)
        await expect(one.page.get_by_role("link", name=f"Plans of {organization}")).to_be_visible()
        await expect(one.page.locator(SWITCHER)).to_have_text(organization)
    assert web.titles(ada, acme) == ["Of Acme", "Plans of Acme"]
    assert web.titles(ada, globex) == ["Of Globex", "Plans of Globex"]


async def test_an_action_after_a_switch_in_another_tab_lands_in_its_own_organization(tab: Tab, web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    await tab.enter(ada, acme)
    other = await tab.open_tab()
    await other.turn_to(globex, "Globex")
    await tab.fill_in("From behind")
    await expect(tab.page.get_by_role("heading", name="From behind")).to_be_visible()
    assert web.titles(ada, acme) == ["From behind", "Plans of Acme"]
    assert web.titles(ada, globex) == ["Plans of Globex"]


async def test_pages_and_actions_come_to_their_own_organization_though_another_tab_takes_the_cookie_on_the_way(
    tab: Tab, web: Web
) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    context, others = tab.page.context, web.token(ada, globex)

    async def put_cookie(token: str) -> None:
        names = [each["name"] for each in await context.cookies() if each["name"].startswith("__session")]
        await context.add_cookies([{"name": name, "value": token, "url": web.url} for name in names])

    async def take_the_cookie(route: Route) -> None:
        if "next-router-prefetch" not in route.request.headers:
            await put_cookie(others)
        await route.continue_()

    await tab.enter(ada, acme)
    await tab.page.locator(USER_BUTTON).wait_for()  # before that nothing is known but the cookie
    await tab.page.route(lambda url: "/orgs/" in url, take_the_cookie)
    await tab.write("On its way")
    await put_cookie(web.token(ada, acme))
    await tab.page.get_by_role("link", name="All documents").click()
    await tab.sees_library_of("Acme")
    await expect(tab.page.get_by_role("link", name="On its way")).to_be_visible()
    assert web.titles(ada, acme) == ["On its way", "Plans of Acme"]
    assert web.titles(ada, globex) == ["Plans of Globex"]


async def test_an_action_that_comes_with_another_organizations_session_changes_nothing(tab: Tab, web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    others = web.token(ada, globex)

    async def send_as_in_globex(route: Route) -> None:
        """As a page would that knows nothing of tabs, after a switch in another one."""
        headers = {name: value for name, value in route.request.headers.items() if name != "tenantry-expected-org"}
        await route.continue_(headers=headers | {"authorization": f"Bearer {others}"})

    await tab.enter(ada, acme)
    await tab.page.route(lambda url: "/orgs/" in url, send_as_in_globex)
    await tab.fill_in("Half a thought")
    await expect(tab.page.get_by_role("alert").filter(has_text="organization")).to_be_visible()
    await expect(tab.page.get_by_label("Title", exact=True)).to_have_value("Half a thought")
    assert web.titles(ada, acme) == ["Plans of Acme"]
    assert web.titles(ada, globex) == ["Plans of Globex"]


async def test_without_a_token_of_its_own_a_tab_behind_writes_nowhere(tab: Tab, web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    await tab.enter(ada, acme)
    other = await tab.open_tab()
    await other.turn_to(globex, "Globex")
    for one in (tab, other):
        await one.share_focus()
    await other.page.bring_to_front()
    await tab.page.route(re.compile("/tokens"), lambda route: route.abort())
    await tab.fill_in("From behind")
    await asyncio.sleep(2)
    assert web.titles(ada, globex) == ["Plans of Globex"]


async def test_a_page_of_the_active_organization_follows_a_switch(tab: Tab, web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    page, frames = tab.page, list[str]()
    await tab.enter(ada, acme)
    await tab.open("/probe/unpinned")
    await expect(page.get_by_role("link", name="Plans of Acme")).to_be_visible()
    await page.get_by_label("Title").fill("Half a thought")
    await expect(page.locator(SWITCHER)).to_have_text("Acme")
    await page.expose_binding("tell", lambda source, frame: frames.append(frame))
    await tab.run(WATCH)
    await tab.run(f"void Clerk.setActive({{ organization: '{globex}' }})")
    await expect(page.get_by_role("link", name="Plans of Globex")).to_be_visible()
    await expect(page.get_by_label("Title")).to_have_value("")  # what was typed for Acme is Acme's
    assert "Globex: Plans of Acme" not in frames
    await page.get_by_label("Title").fill("After the switch")
    async with page.expect_response(lambda answer: "next-action" in answer.request.headers):  # no token's, of Clerk
        await page.get_by_role("button", name="Add").click()
    assert web.titles(ada, globex) == ["After the switch", "Plans of Globex"]
    assert web.titles(ada, acme) == ["Plans of Acme"]


async def test_a_link_inside_the_app_turns_the_tab_to_the_other_organization(tab: Tab, web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    await tab.enter(ada, acme)
    await tab.open(f"/orgs/{acme}/link/{globex}")
    await tab.page.get_by_role("link", name="Elsewhere").click()
    await tab.sees_library_of("Globex")
    await expect(tab.page.get_by_role("link", name="Plans of Globex")).to_be_visible()
    assert (await tab.token())["o"]["id"] == globex


async def test_a_cookie_from_before_another_sign_in_sends_nobody_away(tab: Tab, web: Web) -> None:
    """As when somebody has signed in in another tab, and this one's cookie is not yet renewed."""
    ada, acme, _ = write_in_two_organizations(web)
    await tab.enter(ada, acme)
    await tab.run(
        "for (const [name, value] of document.cookie.split('; ').map((pair) => pair.split('=')))"
        " if (name.startsWith('__client_uat')) document.cookie = `${name}=${Number(value) + 3600}; path=/`;"
    )
    await tab.page.get_by_role("link", name="Members").click()
    await expect(tab.page.get_by_role("heading", name="Members")).to_be_visible()
    await expect(tab.page.locator(".where")).to_contain_text("Acme")


async def test_tabs_of_two_organizations_open_at_once(tab: Tab, web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    await tab.enter(ada)
    other = await tab.open_tab()
    await asyncio.gather(tab.open(f"/orgs/{acme}"), other.open(f"/orgs/{globex}/members"))
    await tab.sees_library_of("Acme")
    await expect(other.page.locator(".where")).to_contain_text("Globex")


async def test_in_the_personal_account_there_are_no_documents(tab: Tab, web: Web) -> None:
    ada, acme, _ = write_in_two_organizations(web)
    await tab.enter(ada, acme)
    await expect(tab.page.get_by_role("link", name="Plans of Acme")).to_be_visible()
    await tab.run("void Clerk.setActive({ organization: null })")
    await expect(tab.page.get_by_role("heading", name="Your organizations")).to_be_visible()
    await expect(tab.page.get_by_text("Plans of Acme")).to_have_count(0)
    await tab.page.get_by_role("main").get_by_role("button", name="Acme").click()
    await tab.sees_library_of("Acme")


async def test_a_tab_behind_shows_its_own_organization_wherever_it_goes(tab: Tab, web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    await tab.enter(ada, acme)
    other = await tab.open_tab()
    await other.turn_to(globex, "Globex")
    await tab.page.get_by_role("link", name="Members").click()
    await expect(tab.page.get_by_role("heading", name="Members")).to_be_visible()
    await expect(tab.page.locator(".where")).to_contain_text("Acme")
    await tab.page.get_by_role("link", name="Documents", exact=True).last.click()
    await tab.sees_library_of("Acme")
    await expect(tab.page.get_by_role("link", name="Plans of Acme")).to_be_visible()


async def test_a_link_to_another_of_ones_organizations_makes_it_the_active_one(tab: Tab, web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    await tab.enter(ada, acme)
    await tab.open(f"/orgs/{globex}/members")
    await expect(tab.page.locator(".where")).to_contain_text("Globex")
    await expect(tab.page.locator(SWITCHER)).to_have_text("Globex")
    assert (await tab.token())["o"]["id"] == globex


def redirects_to(request: Request) -> int:
    return 0 if request.redirected_from is None else 1 + redirects_to(request.redirected_from)


def write_in_two_organizations(web: Web) -> tuple[Person, str, str]:
    """Ada, Acme and Globex, in each of which she has written."""
    ada = web.person("Ada")
    acme, globex = (web.organization(name, ada) for name in ("Acme", "Globex"))
    web.write(ada, acme, "Plans of Acme")
    web.write(ada, globex, "Plans of Globex")
    return ada, acme, globex


# --- who is let in, and what they may do ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/orgs/{}", "/orgs/{}/members", "/orgs/{}/documents/{}"])
async def test_another_organizations_pages_do_not_exist(tab: Tab, web: Web, path: str) -> None:
    ada, zoe = web.person("Ada"), web.person("Zoe")
    acme, globex = web.organization("Acme", ada), web.organization("Globex", zoe)
    there = path.format(globex, web.write(zoe, globex, "Plans of Globex"))
    await tab.enter(ada, acme)
    answer = await tab.page.goto(web.url + there)
    assert answer is not None
    assert answer.status == 404
    assert redirects_to(answer.request) < 15  # browsers follow twenty
    assert "Plans of Globex" not in await answer.text()
    await expect(tab.page.get_by_role("heading", name="There is no such page.")).to_be_visible()
    assert zoe.email not in await tab.page.content()
    await tab.page.locator(USER_BUTTON).wait_for()  # or Clerk's script, left while it loads, notes nobody's sign-in
    again = await tab.page.goto(web.url + there)  # while Clerk's guard against loops keeps it from looking
    assert again is not None
    assert again.status == 404
    for asked in ({}, {"RSC": "1"}, {"Tenantry-Expected-Org": globex}):
        told = web.ask(there, web.token(ada, acme), headers=asked, follow_redirects=True)
        assert told.status_code == 404 or "RSC" in asked  # whose answers say it in their body
        assert "Plans of Globex" not in told.text
        assert zoe.email not in told.text


async def test_another_organizations_document_is_reached_by_no_path(web: Web) -> None:
    ada, zoe = web.person("Ada"), web.person("Zoe")
    acme, globex = web.organization("Acme", ada), web.organization("Globex", zoe)
    secret = web.write(zoe, globex, "Plans of Globex")
    for path, status in (
        (f"/orgs/{acme}/documents/{secret}", 404),
        (f"/api/orgs/{acme}/documents/{secret}", 404),
        (f"/api/orgs/{globex}/documents/{secret}", 409),
    ):
        told = web.ask(path, web.token(ada, acme))
        assert (told.status_code, "Plans of Globex" in told.text) == (status, False)
    draft = {"title": "Taken over"}
    assert (
        web.ask(f"/api/orgs/{acme}/documents/{secret}", web.token(ada, acme), method="PUT", data=draft).status_code
        == 404
    )
    assert (
        web.ask(f"/api/orgs/{globex}/documents/{secret}", web.token(ada, acme), method="PUT", data=draft).status_code
        == 409
    )
    assert web.titles(zoe, globex) == ["Plans of Globex"]


async def test_a_removed_member_is_out_at_the_next_request(tab: Tab, web: Web) -> None:
    ada, grace = web.person("Ada"), web.person("Grace")
    acme = web.organization("Acme", ada, editor=grace)
    web.write(ada, acme, "Plans of Acme")
    await tab.enter(grace, acme)
    await expect(tab.page.get_by_role("link", name="Plans of Acme")).to_be_visible()
    token = web.token(grace, acme)
    web.deployment.clerk.delete(web.membership(acme, grace))
    web.deployment.settle()

    page, told = web.ask(f"/orgs/{acme}", token), web.ask(f"/api/orgs/{acme}/documents/{uuid4()}", token)
    assert (page.status_code, page.headers["location"]) == (307, "/?refused=not_a_member")
    assert "Plans of Acme" not in page.text
    assert (told.status_code, told.json()["code"]) == (403, "not_a_member")

    await tab.open(f"/orgs/{acme}/members")
    out = re.compile("Your organizations|There is no such page.")  # the second once Clerk has told the browser
    await expect(tab.page.get_by_role("heading", name=out)).to_be_visible()
    await expect(tab.page.get_by_text("Plans of Acme")).to_have_count(0)


async def test_an_admin_deletes_and_an_editor_may_not(tab: Tab, web: Web) -> None:
    ada, grace = web.person("Ada"), web.person("Grace")
    acme = web.organization("Acme", ada, member=grace)
    there = f"/orgs/{acme}/documents/{web.write(ada, acme, 'Plans of Acme')}"
    await tab.enter(grace, acme)
    button = tab.page.get_by_role("button", name="Delete this document")
    for role, shown in (("org:editor", 0), ("org:admin", 1)):
        web.deployment.clerk.patch(web.membership(acme, grace), {"role": role})
        web.deployment.settle()
        await tab.open(there)
        await expect(tab.page.get_by_role("heading", name="Plans of Acme")).to_be_visible()
        await expect(button).to_have_count(shown)
    web.deployment.clerk.patch(web.membership(acme, grace), {"role": "org:editor"})
    web.deployment.settle()
    await button.click()  # the page is from before, and so is the token
    await expect(tab.page.get_by_role("alert").filter(has_text="does not permit")).to_be_visible()
    assert web.titles(ada, acme) == ["Plans of Acme"]
    web.deployment.clerk.patch(web.membership(acme, grace), {"role": "org:admin"})
    web.deployment.settle()
    await button.click()
    await expect(tab.page.get_by_text("Nothing here yet.")).to_be_visible()
    assert web.titles(ada, acme) == []


async def test_a_permission_is_judged_alike_in_a_component_a_route_handler_and_an_action(tab: Tab, web: Web) -> None:
    ada, grace = web.person("Ada"), web.person("Grace")
    acme = web.organization("Acme", ada, editor=grace)
    id = web.write(ada, acme, "Plans of Acme")
    page, edit = tab.page, tab.page.locator("summary", has_text="Edit")
    await tab.enter(grace, acme)
    await tab.open(f"/orgs/{acme}/documents/{id}")
    await edit.click()
    await page.get_by_label("Title", exact=True).fill("Better plans")
    await page.get_by_role("button", name="Save changes").click()
    await expect(page.get_by_role("heading", name="Better plans")).to_be_visible()
    assert web.ask(f"/api/orgs/{acme}/documents/{id}", web.token(grace, acme)).json()["mayEdit"] is True
    put: dict[str, Any] = {"method": "PUT", "data": {"title": "Best plans"}}
    assert web.ask(f"/api/orgs/{acme}/documents/{id}", web.token(grace, acme), **put).status_code == 204

    await tab.open(f"/orgs/{acme}/documents/{id}")
    before = web.token(grace, acme)
    web.deployment.clerk.patch(web.membership(acme, grace), {"role": "org:member"})
    web.deployment.settle()
    assert web.ask(f"/api/orgs/{acme}/documents/{id}", before).json()["mayEdit"] is False
    refused = web.ask(f"/api/orgs/{acme}/documents/{id}", before, **put)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    await edit.click()
    await page.get_by_label("Title", exact=True).fill("Worse plans")
    await page.get_by_role("button", name="Save changes").click()
    await expect(page.get_by_role("alert").filter(has_text="does not permit")).to_be_visible()
    await tab.open(f"/orgs/{acme}/documents/{id}")
    await expect(page.get_by_role("heading", name="Best plans")).to_be_visible()
    await expect(edit).to_have_count(0)


async def test_members_are_those_of_the_mirror(tab: Tab, web: Web) -> None:
    ada, grace, zoe = (web.person(name) for name in ("Ada", "Grace", "Zoe"))
    acme = web.organization("Acme", ada, editor=grace)
    web.organization("Globex", zoe)
    await tab.enter(ada, acme)
    await tab.page.get_by_role("link", name="Members").click()
    people = tab.page.locator(".people li")
    await expect(people).to_have_count(2)
    await expect(people.nth(0)).to_contain_text(f"Ada{ada.email}Admin")
    await expect(people.nth(1)).to_contain_text(f"Grace{grace.email}Editor")


async def test_signing_out_leaves_nothing_to_read(tab: Tab, web: Web) -> None:
    ada, acme, _ = write_in_two_organizations(web)
    await tab.enter(ada, acme)
    await tab.page.locator(USER_BUTTON).click()
    await tab.page.get_by_role("button", name="Sign out").click()
    await expect(tab.page.get_by_role("heading", name="One library for")).to_be_visible()
    await tab.page.go_back()
    await expect(tab.page.get_by_text("Plans of Acme")).not_to_be_visible()
    nobody = web.ask(f"/orgs/{acme}")
    assert nobody.status_code == 307
    assert "Plans of Acme" not in nobody.text


async def test_signing_out_in_one_tab_empties_the_other(tab: Tab, web: Web) -> None:
    ada, acme, _ = write_in_two_organizations(web)
    await tab.enter(ada, acme)
    other = await tab.open_tab()
    await other.open(f"/orgs/{acme}")
    await expect(other.page.get_by_role("link", name="Plans of Acme")).to_be_visible()
    await tab.run("void Clerk.signOut()")
    await expect(other.page.get_by_text("Plans of Acme")).not_to_be_visible()


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_webhooks_in_disorder_end_in_what_clerk_has_and_tell_each_who_joined_and_left_once(
    web: Web, database: Database
) -> None:
    deployment, clerk = web.deployment, web.deployment.clerk
    before = {each["id"] for each in deployment.control("GET", "/deliveries")["data"]}
    deployment.control("PUT", "/disorder", {"twice": 0.25, "late": 0.2, "swapped": 0.25, "lost": 0.25})
    try:
        users = [clerk.user(f"disordered{number}")["id"] for number in range(12)]
        organizations = [clerk.organization(f"Org {number}", created_by=users[number])["id"] for number in range(3)]
        for number, user in enumerate(users[3:]):
            place = f"/organizations/{organizations[number % 3]}/memberships"
            clerk.post(place, {"user_id": user, "role": "org:member"})
            if number % 2:
                clerk.patch(f"{place}/{user}", {"role": "org:editor"})
            if number % 3 == 1:
                clerk.delete(f"{place}/{user}")
            if number % 6 == 1:
                clerk.post(place, {"user_id": user, "role": "org:admin"})
        clerk.delete(f"/users/{users[11]}")
        clerk.delete(f"/organizations/{organizations[2]}")
        deployment.settle()
    finally:
        deployment.control("PUT", "/disorder", {})
    assert deployment.resend_lost() > 0
    deliveries = [each for each in deployment.control("GET", "/deliveries")["data"] if each["id"] not in before]
    assert {each["url"] for each in deliveries} == {f"{web.url}/api/webhooks/clerk"}
    for delivery in deliveries[::5]:  # and some again, long after
        deployment.control("POST", f"/deliveries/{delivery['id']}/resend", {})
    deployment.settle()
    assert deployment.mirrored_members() == deployment.true_members()
    with database.connect(SUPERUSER) as connection:
        Mirror(connection).check_feed()


def test_a_delivery_that_clerk_has_not_signed_is_refused(web: Web) -> None:
    place = f"{web.url}/api/webhooks/clerk"
    forged = {"svix-id": "msg_1", "svix-timestamp": "1", "svix-signature": "v1,AAAA"}
    assert httpx.post(place, content=b"{}", headers=forged, trust_env=False).status_code == 400
    assert httpx.post(place, content=b"x" * 2_000_000, headers=forged, trust_env=False).status_code == 413
    assert httpx.post(place, content=b"{}", trust_env=False).status_code == 400


# --- what is easily done wrong ----------------------------------------------------------------------------------------


def test_a_tenants_page_that_is_rendered_statically_fails(web: Web) -> None:
    ada, acme, _ = write_in_two_organizations(web)
    for _ in range(2):
        told = web.ask("/probe/static/1", web.token(ada, acme))
        assert told.status_code == 500
        assert "Plans" not in told.text


def test_a_query_outside_of_with_tenant_fails_closed(web: Web) -> None:
    ada, acme, _ = write_in_two_organizations(web)
    told = web.ask("/probe/outside", web.token(ada, acme))
    assert (told.status_code, told.json()) == (500, {"code": "no_tenant"})


def test_a_cached_function_may_not_ask_for_the_tenant_itself(web: Web) -> None:
    ada, acme, _ = write_in_two_organizations(web)
    told = web.ask("/probe/cached", web.token(ada, acme))
    assert (told.status_code, told.text) == (500, "refused")


def test_a_cached_function_joins_no_transaction(web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    for organization in (acme, globex):
        told = web.ask("/probe/joined", web.token(ada, organization))
        assert (told.status_code, told.json()) == (200, ["refused"] * 4)


def test_a_cached_function_that_became_an_action_takes_no_tenant_from_its_caller(
    web: Web, built: Path, database: Database
) -> None:
    _, _, globex = write_in_two_organizations(web)
    with database.connect(SUPERUSER) as connection:
        found = connection.execute("select id::text from tenantry.tenants where clerk_org_id = %s", [globex]).fetchone()
    assert found is not None
    manifest = json.loads((built / ".next/server/server-reference-manifest.json").read_text(encoding="utf-8"))
    (action,) = [name for name, told in manifest["node"].items() if [*told["workers"]] == ["app/probe/forged/page"]]
    forged = json.dumps([{"tenantId": found[0], "userId": None, "role": None}])
    headers = {"Next-Action": action, "Content-Type": "text/plain;charset=UTF-8", "Origin": web.url}
    told = web.ask("/probe/forged", method="POST", content=forged, headers=headers)
    assert told.status_code == 500
    assert "Plans of Globex" not in told.text
    assert "tenantry:no_tenant" in told.text


def test_what_is_cached_is_of_one_tenant(web: Web) -> None:
    ada, acme, globex = write_in_two_organizations(web)
    web.write(ada, globex, "More plans of Globex")
    for _ in range(2):
        assert "1<!-- --> <!-- -->document<!-- -->" in web.ask(f"/orgs/{acme}", web.token(ada, acme)).text
        assert "2<!-- --> <!-- -->documents<!-- -->" in web.ask(f"/orgs/{globex}", web.token(ada, globex)).text


def test_no_page_of_a_tenant_is_rendered_at_build_time(built: Path) -> None:
    manifest = json.loads((built / ".next" / "prerender-manifest.json").read_text(encoding="utf-8"))
    ready = {*manifest["routes"], *manifest["dynamicRoutes"]}
    assert not {path for path in ready if path.startswith(("/orgs", "/api"))}
