"""The example in a real browser: Clerk's own components, the emulator behind them, webhooks, and the rows they make."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import ConsoleMessage, Page, Route, expect

from browser.conftest import Contexts
from browser.stage import (
    CHOICE,
    PASSWORD,
    SWITCHER,
    USER_BUTTON,
    WATCH,
    Stage,
    Visitor,
    holding_webhooks,
    slow_answer,
    some_more,
)
from conftest import lack
from databases import ANY, APP, OWNER, SUPERUSER, Database, Server
from examples.deployment import deploy
from tenantry import schema
from tenantry.emulator.bundles import Bundles, BundleUnavailable
from tenantry.emulator.records import Organization

pytestmark = pytest.mark.requires("chromium", "npm")


@pytest.fixture(scope="module")
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    server = servers(ANY)
    made = server.create()
    with made.connect(SUPERUSER) as connection:
        schema.install(connection, app_roles=[APP, OWNER])
    yield made
    server.drop(made)


@pytest.fixture(scope="module")
def stage(database: Database) -> Iterator[Stage]:
    try:
        Bundles().prefetch()
    except BundleUnavailable as error:
        lack(f"Clerk's scripts cannot be had: {error}")
    with deploy(database, settings={"membership_required": False}) as deployment:
        yield Stage(deployment)


@pytest.fixture
def refused_by_policy(troubles: list[str]) -> Callable[[ConsoleMessage], None]:
    def notice(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            troubles.append(message.text)

    return notice


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(
    new_context: Contexts, stage: Stage, refused_by_policy: Callable[[ConsoleMessage], None]
) -> AsyncIterator[Visitor]:
    context = await new_context()
    context.on("console", refused_by_policy)
    yield Visitor(await context.new_page(), stage)


# --- signing in and up ------------------------------------------------------------------------------------------------


async def test_somebody_signs_in_with_email_and_password(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    acme = stage.organization("Acme", ada)
    stage.write(ada, acme, "Plans of Acme")
    page = visitor.page
    await visitor.open()
    await page.get_by_role("banner").get_by_role("link", name="Sign in").click()
    await page.locator("input[name=identifier]").fill(ada.email)
    await page.get_by_role("button", name="Continue", exact=True).click()
    await page.locator("input[name=password]").fill("not the password")
    await page.get_by_role("button", name="Continue", exact=True).click()
    await expect(page.locator("#error-password")).to_be_visible()
    await page.locator("input[name=password]").fill(PASSWORD)
    await page.get_by_role("button", name="Continue", exact=True).click()
    await visitor.sees_library_of("Acme")
    await expect(page.get_by_role("link", name="Plans of Acme")).to_be_visible()


async def test_somebody_of_the_emulator_is_signed_in_by_a_click(visitor: Visitor, stage: Stage) -> None:
    grace = stage.person("Grace")
    stage.organization(name := f"Click {uuid4().hex[:6]}", grace)
    await visitor.open()
    await visitor.page.get_by_role("button", name=f"Grace Admin in {name}").click()
    await visitor.sees_library_of(name)


async def test_the_sign_in_component_offers_the_emulators_people(visitor: Visitor, stage: Stage) -> None:
    grace = stage.person("Grace")
    stage.organization(name := f"Seeded {uuid4().hex[:6]}", grace)
    await visitor.open("/sign-in")
    await visitor.page.get_by_role("button", name="Seeded person").click()
    await visitor.page.get_by_role("button").filter(has_text=grace.email).click()
    await visitor.sees_library_of(name)


async def sign_up(page: Page, email: str) -> None:
    await page.locator("input[name=emailAddress]").fill(email)
    await page.locator("input[name=password]").fill(PASSWORD)
    await page.get_by_role("button", name="Continue", exact=True).click()
    await page.get_by_role("textbox", name="verification code").press_sequentially("424242")


async def test_somebody_signs_up_and_creates_the_first_organization(visitor: Visitor, stage: Stage) -> None:
    page, email = visitor.page, f"new-{uuid4().hex[:8]}@example.test"
    await visitor.open("/sign-up")
    await sign_up(page, email)
    await expect(page.get_by_role("heading", name="Choose an organization").first).to_be_visible()
    await create_organization(page, name := f"First {uuid4().hex[:6]}")
    await visitor.sees_library_of_new(name)
    await expect(page.locator("aside")).to_contain_text(email)


async def test_where_everybody_needs_an_organization_a_sign_up_ends_with_one(visitor: Visitor, stage: Stage) -> None:
    page, email = visitor.page, f"new-{uuid4().hex[:8]}@example.test"
    with stage.settings(membership_required=True):
        await visitor.open("/sign-up")
        await sign_up(page, email)
        await page.locator("input[name=name]").wait_for()
        await visitor.open()
        await expect(page.get_by_role("heading", name="One more step")).to_be_visible()
        await page.locator("input[name=name]").fill(name := f"Needed {uuid4().hex[:6]}")
        await page.get_by_role("button", name="Continue").click()
        await visitor.sees_library_of_new(name)


async def test_a_page_that_needs_somebody_comes_back_after_signing_in(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    there = f"/documents/{stage.write(ada, stage.organization('Acme', ada), 'Plans')}"
    page = visitor.page
    await visitor.open(there)
    await page.get_by_role("main").get_by_role("link", name="Sign in").click()
    await page.locator("input[name=identifier]").fill(ada.email)
    await page.get_by_role("button", name="Continue", exact=True).click()
    await page.locator("input[name=password]").fill(PASSWORD)
    await page.get_by_role("button", name="Continue", exact=True).click()
    await page.wait_for_url(stage.url + there)
    await expect(page.get_by_role("heading", name="Plans")).to_be_visible()


async def test_signing_out_leaves_nothing_to_read(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    stage.write(ada, stage.organization("Acme", ada), "Plans of Acme")
    await visitor.enter(ada)
    await visitor.page.locator(USER_BUTTON).click()
    await visitor.page.get_by_role("button", name="Sign out").click()
    await expect(visitor.page.get_by_role("heading", name="One library for")).to_be_visible()
    await visitor.page.go_back()
    await expect(visitor.page.get_by_text("Plans of Acme")).not_to_be_visible()


# --- creating an organization -----------------------------------------------------------------------------------------


async def create_organization(page: Page, name: str) -> None:
    """Through the component, wherever it is open."""
    await page.locator("input[name=name]").fill(name)
    await page.get_by_role("button", name="Create organization").click()


async def test_an_organization_made_by_the_component_works_before_its_webhook(visitor: Visitor, stage: Stage) -> None:
    kay = stage.person("Kay")
    stage.organization("Acme", kay)
    await visitor.enter(kay)
    page, name = visitor.page, f"Fresh {uuid4().hex[:6]}"
    with holding_webhooks(stage):
        await page.get_by_role("button", name="New organization").click()
        async with page.expect_response(re.compile("/orgs/org_")) as first:
            await create_organization(page, name)
            await page.get_by_role("button", name="Skip").click()  # nobody is invited
        assert (await first.value).status == 200
        await visitor.sees_library_of("Your organization")  # the name comes with the webhook
        await visitor.write("Before the webhook")
    await visitor.open()
    await visitor.sees_library_of(name)
    await expect(page.get_by_role("link", name="Before the webhook")).to_be_visible()


async def test_an_organization_made_by_a_call_works_before_its_webhook(visitor: Visitor, stage: Stage) -> None:
    await visitor.enter(stage.person("Kay"))
    with holding_webhooks(stage):
        status = await visitor.run(
            """async () => {
              const { id } = await Clerk.createOrganization({ name: "Called" });
              const token = await Clerk.session.getToken({ organizationId: id });
              const answer = await fetch("/api/documents", { headers: { Authorization: `Bearer ${token}` } });
              return answer.status;
            }"""
        )
        assert status == 200


# --- switching --------------------------------------------------------------------------------------------------------


class Crossing:
    """Somebody who is in Acme and in Globex switches to Globex, whose page is slow to come."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor, self.page = visitor, visitor.page
        self.frames: list[str] = []
        self.ada = visitor.stage.person("Ada")
        self.acme, self.globex = (visitor.stage.organization(name, self.ada) for name in ("Acme", "Globex"))
        visitor.stage.write(self.ada, self.acme, "Plans of Acme")
        visitor.stage.write(self.ada, self.globex, "Plans of Globex")

    async def begin(self) -> None:
        await self.visitor.enter(self.ada, "Acme")
        await expect(self.page.get_by_role("link", name="Plans of Acme")).to_be_visible()
        await expect(self.page.locator(SWITCHER)).to_have_text("Acme")
        await self.page.expose_binding("tell", lambda source, frame: self.frames.append(frame))
        await self.visitor.run(WATCH)

    def slow_answer(self) -> AbstractAsyncContextManager[None]:
        return slow_answer(self.page, f"/orgs/{self.globex}", self.frames)

    @asynccontextmanager
    async def token_on_leaving(self) -> AsyncIterator[None]:
        """A token asked for inside the block, before Clerk leaves for the page of Globex, comes before that page."""
        asked, left, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def hold_touch(route: Route) -> None:
            await asked.wait()
            await route.continue_()

        async def hold_token(route: Route) -> None:
            asked.set()
            await left.wait()
            await route.continue_()

        async def hold_page(route: Route) -> None:
            if not left.is_set():
                async with self.page.expect_event("requestfinished", lambda request: "/tokens?" in request.url):
                    left.set()
                await some_more(self.frames)
            await route.continue_()
            answered.set()

        await self.page.route("**/touch?*", hold_touch)
        await self.page.route("**/tokens?*", hold_token)
        await self.page.route(f"**/orgs/{self.globex}", hold_page)
        yield
        async with asyncio.timeout(20):
            await answered.wait()

    async def arrive(self) -> set[str]:
        """What was seen on the way."""
        await self.page.wait_for_url(f"{self.visitor.stage.url}/orgs/{self.globex}")
        await self.visitor.sees_library_of("Globex")
        await expect(self.page.get_by_role("link", name="Plans of Globex")).to_be_visible()
        await expect(self.page.get_by_text("Plans of Acme")).to_have_count(0)
        return set(self.frames)


async def test_after_a_switch_the_page_is_the_new_organizations(visitor: Visitor) -> None:
    crossing = Crossing(visitor)
    await crossing.begin()
    async with crossing.slow_answer():
        await visitor.page.locator(SWITCHER).click()
        await visitor.page.locator(CHOICE, has_text="Globex").click()
    seen = await crossing.arrive()
    assert "Acme: Plans of Acme" in seen
    assert "Globex: Plans of Acme" not in seen
    assert (await visitor.token())["o"]["id"] == crossing.globex


async def test_after_a_switch_by_a_call_the_page_follows(visitor: Visitor) -> None:
    crossing = Crossing(visitor)
    await crossing.begin()
    async with crossing.slow_answer():
        await visitor.run(f"void Clerk.setActive({{ organization: '{crossing.globex}' }})")
    seen = await crossing.arrive()
    assert "Acme: Plans of Acme" in seen
    assert "Globex: Plans of Acme" not in seen


async def test_a_token_that_comes_while_clerk_leaves_the_page_does_not_turn_it_back(visitor: Visitor) -> None:
    crossing = Crossing(visitor)
    await crossing.begin()
    async with crossing.token_on_leaving():  # which clerk-js asks for every few seconds
        turn = f"void Clerk.setActive({{ organization: '{crossing.globex}', redirectUrl: '/orgs/{crossing.globex}' }})"
        await visitor.run(f"{turn}, void Clerk.session.getToken()")
    assert "Globex: Plans of Acme" not in await crossing.arrive()
    assert (await visitor.token())["o"]["id"] == crossing.globex


async def test_without_its_hiding_the_page_would_show_old_data_under_the_new_name(visitor: Visitor) -> None:
    async def unhide(route: Route) -> None:
        script = await (await route.fetch()).text()
        rule = "visibility: hidden !important;"
        assert rule in script
        await route.fulfill(body=script.replace(rule, ""), content_type="text/javascript")

    await visitor.page.route("**/tenantry.js", unhide)
    crossing = Crossing(visitor)
    await crossing.begin()
    async with crossing.slow_answer():
        await visitor.run(f"void Clerk.setActive({{ organization: '{crossing.globex}' }})")
    assert "Globex: Plans of Acme" in await crossing.arrive()


async def test_in_the_personal_account_there_are_no_documents(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    stage.write(ada, stage.organization("Acme", ada), "Plans of Acme")
    await visitor.enter(ada)
    await expect(visitor.page.get_by_role("link", name="Plans of Acme")).to_be_visible()
    await visitor.run("void Clerk.setActive({ organization: null })")
    await expect(visitor.page.get_by_role("heading", name="Choose an organization")).to_be_visible()
    await expect(visitor.page.get_by_text("Plans of Acme")).to_have_count(0)
    await visitor.page.locator(".cl-organizationList-root, .cl-organizationListPreviewButton").first.wait_for()
    await visitor.page.locator(".cl-organizationListPreviewButton", has_text="Acme").click()
    await visitor.sees_library_of("Acme")


async def test_two_tabs_in_two_organizations_do_not_mix(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    acme, globex = stage.organization("Acme", ada), stage.organization("Globex", ada)
    await visitor.enter(ada, "Acme")
    other = await visitor.open_tab()
    await other.open()
    await other.switch("Globex")

    await expect(other.page.locator(SWITCHER)).to_have_text("Globex")
    for tab, organization in ((visitor, "Acme"), (other, "Globex")):
        for each in (visitor, other):
            await each.share_focus()
        await tab.come_to_front()
        await tab.write(f"Of {organization}")
        await tab.page.get_by_role("link", name="All documents").click()
        await tab.sees_library_of(organization)
        await expect(tab.page.locator(SWITCHER)).to_have_text(organization)
    assert stage.titles(ada, acme) == ["Of Acme"]
    assert stage.titles(ada, globex) == ["Of Globex"]


async def test_what_a_page_asks_is_for_its_own_organization(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    acme, globex = stage.organization("Acme", ada), stage.organization("Globex", ada)
    stage.write(ada, acme, "Plans of Acme")
    stage.write(ada, globex, "Plans of Globex")
    await visitor.enter(ada, "Acme")
    await visitor.lose_focus()
    other = await visitor.open_tab()
    await other.open()
    await other.switch("Globex")
    ask = "({fetch}('/api/documents')).then((answer) => answer.json()).then((found) => found.map((one) => one.title))"
    assert await visitor.run(ask.format(fetch="fetch")) == ["Plans of Globex"]  # the cookie is of all tabs
    assert await visitor.run(ask.format(fetch="tenantry.fetch")) == ["Plans of Acme"]


async def test_a_form_in_a_tab_behind_lands_in_its_own_organization(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    acme, globex = stage.organization("Acme", ada), stage.organization("Globex", ada)
    await visitor.enter(ada, "Acme")
    other = await visitor.open_tab()
    await other.open()
    await other.switch("Globex")
    await other.lose_focus()
    async with visitor.page.expect_response(
        lambda answer: answer.request.method == "POST" and "/documents" in answer.url
    ) as sent:
        await visitor.fill_in("From behind")
    assert (await sent.value).status == 303
    assert stage.titles(ada, acme) == ["From behind"]
    assert stage.titles(ada, globex) == []


async def test_an_answer_for_another_organization_is_told_and_nothing_typed_is_lost(
    visitor: Visitor, stage: Stage
) -> None:
    ada = stage.person("Ada")
    stage.organization("Acme", ada)
    globex = stage.organization("Globex", ada)
    await visitor.enter(ada, "Acme")
    page = visitor.page
    await page.get_by_text("Write a new document").click()
    await page.get_by_label("Title", exact=True).fill("Half a thought")
    foreign = stage.deployment.clerk.emulator.mint_token(ada.id, globex, authorized_party=stage.url)
    status = await visitor.run(
        "(token) => tenantry.fetch('/api/documents', { headers: { Authorization: `Bearer ${token}` } })"
        ".then((answer) => answer.status)",
        foreign,
    )
    assert status == 409
    await expect(page.get_by_role("alert").filter(has_text="This tab shows Acme")).to_be_visible()
    await expect(page.get_by_label("Title", exact=True)).to_have_value("Half a thought")
    await page.get_by_role("button", name="Reload").click()
    await visitor.sees_library_of("Acme")


async def test_a_page_of_another_organization_than_the_tokens_says_so(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    acme, globex = stage.organization("Acme", ada), stage.organization("Globex", ada)
    stage.write(ada, acme, "Plans of Acme")
    await visitor.enter(ada, "Globex")
    answer = await visitor.page.goto(f"{stage.url}/orgs/{acme}")
    assert answer is not None
    assert answer.status == 409
    await expect(visitor.page.get_by_role("heading", name="another organization")).to_be_visible()
    await visitor.page.get_by_role("link", name="Open the active organization").click()
    await visitor.sees_library_of("Globex")
    assert globex


# --- who is let in ----------------------------------------------------------------------------------------------------


async def test_who_is_removed_where_membership_is_required_is_asked_to_choose(visitor: Visitor, stage: Stage) -> None:
    with stage.settings(membership_required=True):
        ada, grace = stage.person("Ada"), stage.person("Grace")
        acme, globex = stage.organization("Acme", ada, editor=grace), stage.organization("Globex", ada, editor=grace)
        await visitor.enter(grace)
        await visitor.sees_library_of("Globex")
        stage.deployment.control(
            "POST", "/trigger", {"type": "organizationMembership.deleted", "user": grace.id, "organization": globex}
        )
        stage.deployment.settle()
        await visitor.page.goto(stage.url)
        await expect(visitor.page.get_by_role("heading", name="One more step")).to_be_visible()
        await visitor.page.get_by_role("button", name="Acme").click()
        await visitor.sees_library_of("Acme")
    assert acme


async def test_a_removed_member_is_out_at_the_next_request(visitor: Visitor, stage: Stage) -> None:
    ada, grace = stage.person("Ada"), stage.person("Grace")
    acme = stage.organization("Acme", ada, editor=grace)
    there = f"/documents/{stage.write(ada, acme, 'Plans of Acme')}"
    await visitor.enter(grace)
    await visitor.sees_library_of("Acme")
    stage.deployment.control(
        "POST", "/trigger", {"type": "organizationMembership.deleted", "user": grace.id, "organization": acme}
    )
    stage.deployment.settle()
    told = await visitor.page.request.get(stage.url + there)  # a page's own answer is gone once it turns to the next
    assert (told.status, "Plans of Acme" in await told.text()) == (403, False)
    answer = await visitor.page.goto(stage.url + there)
    assert answer is not None
    assert answer.status == 403
    await expect(visitor.page.get_by_text("Plans of Acme")).to_have_count(0)
    await expect(visitor.page.get_by_role("button", name="Sign out")).to_be_visible()


async def test_a_change_of_role_shows_and_hides_the_delete_button(visitor: Visitor, stage: Stage) -> None:
    ada, grace = stage.person("Ada"), stage.person("Grace")
    acme = stage.organization("Acme", ada, member=grace)
    there = f"/documents/{stage.write(ada, acme, 'Plans of Acme')}"
    await visitor.enter(grace)
    remove = visitor.page.get_by_role("group").filter(has_text="Delete")
    for role, shown in (("org:member", 0), ("org:admin", 1), ("org:editor", 0)):
        stage.deployment.clerk.patch(stage.membership(acme, grace), {"role": role})
        stage.deployment.settle()
        await visitor.open(there)
        await expect(visitor.page.get_by_role("heading", name="Plans of Acme")).to_be_visible()
        await expect(remove).to_have_count(shown)
    forged = await visitor.run(f"tenantry.fetch('{there}/delete', {{ method: 'POST' }}).then((a) => a.status)")
    assert forged == 403
    assert stage.titles(ada, acme) == ["Plans of Acme"]


async def test_where_only_the_invited_join_nobody_makes_an_organization(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    stage.organization("Acme", ada)
    await visitor.enter(ada)
    button = visitor.page.get_by_text("New organization")
    await expect(button).to_be_visible()
    offer = visitor.page.get_by_role("button", name="Create organization")
    await visitor.page.locator(SWITCHER).click()
    await expect(offer).to_be_visible()
    with stage.settings(users_may_create_organizations=False):
        await visitor.open()
        await visitor.page.locator(SWITCHER).click()
        await expect(visitor.page.get_by_role("dialog").get_by_role("button", name="Manage")).to_be_visible()
        await expect(offer).to_have_count(0)
        await expect(button).to_be_hidden()
        forged = await visitor.run(
            "Clerk.createOrganization({ name: 'Forged' }).then(() => 200, (error) => error.status)"
        )
        assert forged == 403


async def test_a_name_that_is_markup_is_text_everywhere(visitor: Visitor, stage: Stage) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    ada = stage.person("Ada")
    acme = stage.organization("Acme", ada)
    name_it(stage, acme, evil)
    visitor.page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    await visitor.enter(ada)
    await visitor.sees_library_of(evil)
    await expect(visitor.page.locator(SWITCHER)).to_contain_text(evil)
    await visitor.write(evil)
    await expect(visitor.page.locator("main script, main img")).to_have_count(0)


def name_it(stage: Stage, organization: str, name: str) -> None:
    """Clerk's API refuses markup in a name: it is written beneath it, and announced as a change is."""
    store = stage.deployment.clerk.emulator.store
    found: Organization = store.organizations.get(organization)
    store.state.organizations[organization] = replace(found, name=name)
    store.organizations.update(organization, {"public_metadata": {"changed": True}})
    stage.deployment.settle()


async def test_a_forged_switch_to_others_is_refused(visitor: Visitor, stage: Stage) -> None:
    ada, zoe = stage.person("Ada"), stage.person("Zoe")
    acme, globex = stage.organization("Acme", ada), stage.organization("Globex", zoe)
    stage.write(zoe, globex, "Plans of Globex")
    await visitor.enter(ada)
    await visitor.sees_library_of("Acme")
    told = await visitor.run(
        """async (organization) => {
          const touch = await fetch(`/__clerk/v1/client/sessions/${Clerk.session.id}/touch`,
            { method: "POST", body: new URLSearchParams({ active_organization_id: organization }) });
          const token = await fetch(`/__clerk/v1/client/sessions/${Clerk.session.id}/tokens`,
            { method: "POST", body: new URLSearchParams({ organization_id: organization }) });
          return [touch.status, token.status];
        }""",
        globex,
    )
    assert all(status in (403, 404) for status in told)
    await visitor.open()
    await visitor.sees_library_of("Acme")
    assert (await visitor.token())["o"]["id"] == acme
    answer = await visitor.page.goto(f"{stage.url}/orgs/{globex}")
    assert answer is not None
    assert answer.status == 409


async def test_an_expired_token_is_renewed_and_the_page_comes_back(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    stage.write(ada, acme := stage.organization("Acme", ada), "Plans of Acme")
    await visitor.enter(ada)
    await visitor.sees_library_of("Acme")
    await visitor.open("/static/icon.svg")  # no script of Clerk's that would renew it
    expired = stage.deployment.clerk.emulator.mint_token(ada.id, acme, seconds=-60, authorized_party=stage.url)
    context = visitor.page.context
    for cookie in await context.cookies():
        if cookie["name"].startswith("__session"):
            await context.add_cookies([{"name": cookie["name"], "value": expired, "url": stage.url}])
    answer = await visitor.page.goto(stage.url)
    assert answer is not None
    assert answer.status == 401
    await visitor.sees_library_of("Acme")
    await expect(visitor.page.get_by_role("link", name="Plans of Acme")).to_be_visible()


async def test_a_mailed_link_for_somebody_else_asks_to_sign_out_first(visitor: Visitor, stage: Stage) -> None:
    ada, grace = stage.person("Ada"), stage.person("Grace")
    stage.organization("Acme", ada)
    stage.organization("Globex", grace)
    await visitor.enter(ada)
    await visitor.sees_library_of("Acme")
    await visitor.open(f"/sign-in?__clerk_ticket={stage.ticket(grace)}")
    await visitor.page.locator(USER_BUTTON).wait_for()
    await visitor.page.get_by_role("button", name="Sign out and go on").click()
    await visitor.sees_library_of("Globex")


async def test_a_link_of_the_emulators_page_makes_somebody_else_of_the_visitor(visitor: Visitor, stage: Stage) -> None:
    ada, grace = stage.person("Ada"), stage.person("Grace")
    stage.organization("Acme", ada)
    globex = stage.organization("Globex", grace)
    stage.organization("Initech", grace)
    await visitor.enter(ada)
    await visitor.sees_library_of("Acme")
    made = stage.deployment.control("POST", "/sign-in-links", {"user": grace.id, "organization": globex})
    visitor.page = await visitor.page.context.new_page()  # as the emulator's page opens it
    await visitor.page.goto(made["url"])
    await visitor.sees_library_of("Globex")
    await expect(visitor.page.locator("aside")).to_contain_text(grace.email)


async def test_words_counted_after_the_answer_appear_by_themselves(visitor: Visitor, stage: Stage) -> None:
    ada = stage.person("Ada")
    id = stage.write(ada, acme := stage.organization("Acme", ada), "Plans")
    with stage.deployment.sign_in(ada.id, acme) as client:
        stage.deployment.wait_for_words(client, id)  # the job is done, and comes between no more
    set_words(stage, id, None)
    await visitor.enter(ada)
    await visitor.open(f"/documents/{id}")
    await expect(visitor.page.get_by_text("counting words")).to_be_visible()
    set_words(stage, id, 1234)
    await expect(visitor.page.get_by_text("1,234 words")).to_be_visible()


def set_words(stage: Stage, document_id: str, words: int | None) -> None:
    """As the job would, or before it has."""
    with stage.deployment.database.connect(SUPERUSER) as connection:
        connection.execute("update documents set words = %s where id = %s", [words, document_id])
