"""`tenantry.js` in a real browser, with Clerk's real frontend against the emulator: what a person sees, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from browser.conftest import LIMIT_S, PATIENCE_MS, Contexts, find_chromium
from browser.site import Site
from emulator.world import Running, serve
from tenantry.emulator.app import create_app
from tenantry.emulator.bundles import HTMX, Bundle, Bundles
from tenantry.emulator.emulator import Emulator
from tenantry.settings import Settings

pytestmark = [pytest.mark.requires("chromium", "npm")]

HTMX_4 = Bundle(
    name="htmx.org",
    version="4.0.1",
    sha512="oF7JgXhDW9UXCy/k1ZYFUQgzu/rm19ORWPSPNL91vPluB2PB9+MV55tyQdH/w7o2EAbTYUG5SDW1R60mdkdqGg==",
    files=r"dist/htmx\.min\.js",
)
SCRIPT = Path(__file__).parents[2] / "src" / "tenantry" / "static" / "tenantry.js"

# Tells, before each frame is painted, which organization the switcher names and whose data can be read.
WATCH = """
(() => {
  const readable = (node) => getComputedStyle(node).visibility === "visible";
  const look = () => {
    const named = document.querySelector(".cl-organizationSwitcherTrigger")?.innerText ?? "";
    const nodes = [...document.querySelectorAll("main p, main div[id=data]")].filter(readable);
    for (const node of nodes) saw(named.trim(), node.textContent.trim());
    if (!nodes.length && document.querySelector("main[aria-busy=true]")) saw(named.trim(), "busy");
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})();
"""
SIGN_IN = """async ([ticket, organization]) => {
  await tenantry.loaded;
  const attempt = await Clerk.client.signIn.create({ strategy: "ticket", ticket });
  await Clerk.setActive({ session: attempt.createdSessionId, organization });
}"""
# What a page gets that knows nothing of the guard: another window's `submit`.
UNGUARDED = """(form) => {
  const frame = document.createElement("iframe");
  document.body.append(frame);
  frame.contentWindow.HTMLFormElement.prototype.submit.call(form);
}"""
CLOBBERED = """() => {
  const form = document.getElementById("once").cloneNode();
  for (const name of ["text", "getAttribute", "setAttribute", "action", "method", "submit", "requestSubmit"]) {
    form.append(Object.assign(document.createElement("input"), { name, value: "clobbered" }));
  }
  const button = document.createElement("button");
  form.append(button);
  document.querySelector("main").append(form);
  button.click();
}"""
COOKIE_IS_OF = """(organization) => {
  const sessions = document.cookie.split("; ").filter((pair) => pair.startsWith("__session"));
  const tokens = sessions.map((pair) => pair.split("=")[1]);
  const claims = tokens.map((token) => atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  return claims.length > 0 && claims.every((text) => JSON.parse(text).o?.id === organization);
}"""
NO_STORAGE = """Object.defineProperty(window, "sessionStorage", {
  get() { throw new DOMException("Access is denied for this document.", "SecurityError"); },
});"""
BACKGROUND = "document.hasFocus = () => false"  # Playwright tells every page that it has the focus


@dataclass
class World:
    """The site at `url`, and the emulator it stands on."""

    site: Site
    url: str
    emulator: Running

    def ticket(self, name: str) -> str:
        found = self.emulator.get("/users", email_address=f"{name}@example.test")
        return str(self.emulator.post("/sign_in_tokens", {"user_id": found[0]["id"]})["token"])

    def organization(self, slug: str) -> str:
        return str(self.emulator.get(f"/organizations/{slug}")["id"])

    async def sign_in(self, page: Page, organization: str | None = "acme", path: str = "/", name: str = "ada") -> None:
        """Somebody signed in, on a page that shows it."""
        await page.goto(self.url + path)
        org = organization and self.organization(organization)
        await begin(page, SIGN_IN, [self.ticket(name), org])
        await expect(page.locator("#data")).to_have_text(f"Data of {organization or 'personal'}")
        await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()


@dataclass
class Sight:
    """What could be read on a page: pairs of the organization named and the data."""

    pairs: set[tuple[str, str]] = field(default_factory=set)

    async def hold(self, pairs: set[tuple[str, str]]) -> None:
        """Waits until all these have been seen."""
        await until(lambda: pairs <= self.pairs)

    @property
    def wrong(self) -> set[tuple[str, str]]:
        told = {(named, data) for named, data in self.pairs if named and data != "busy"}
        return {(named, data) for named, data in told if named.lower() not in data.lower()}


@pytest.fixture
def htmx() -> dict[int, Path]:
    return {
        2: Bundles(pinned=(HTMX,)).file("htmx.org", "dist/htmx.min.js"),
        4: Bundles(pinned=(HTMX_4,)).file("htmx.org", "dist/htmx.min.js"),
    }


@pytest.fixture
def changes() -> dict[str, Any]:
    """Changes of the site's settings, by `parametrize`."""
    return {}


@pytest.fixture
def world(htmx: dict[int, Path], changes: dict[str, Any]) -> Iterator[World]:
    emulator = Emulator(settings={"slugs": True, "membership_required": False})
    with serve(create_app(emulator)) as emulator_url:
        headers = {"authorization": f"Bearer {emulator.instance.secret_key}"}
        with httpx.Client(base_url=f"{emulator_url}/v1", headers=headers) as api:
            settings = Settings(
                publishable_key=emulator.instance.publishable_key,
                jwt_key=emulator.instance.public_key_pem,
                database_url="postgresql://nobody@127.0.0.1:1/nothing",  # the site asks no database
                emulator_url=emulator_url,
                **changes,
            )
            site = Site(settings, htmx)
            with serve(site.app()) as url:
                yield World(site, url, Running(emulator, emulator_url, api))
    emulator.close()


@pytest.fixture
def change_script(page: Page) -> Callable[[str, str], Awaitable[None]]:
    """Serves `tenantry.js` with a part taken out, to see that the part is what prevents something."""

    async def change(old: str, new: str) -> None:
        source = SCRIPT.read_text(encoding="utf-8")
        assert source.count(old) == 1, f"{source.count(old)} times: {old}"

        async def send(route: Route) -> None:
            await route.fulfill(body=source.replace(old, new), content_type="text/javascript")

        await page.route("**/tenantry.js", send)

    return change


async def begin(page: Page, script: str, given: Any = None) -> None:
    """Starts a script that may turn the page to the next one: nobody would answer who waits for its end."""
    await page.evaluate(f"(given) => {{ ({script})(given).catch((error) => console.warn(String(error))); }}", given)


async def until(condition: Callable[[], bool], seconds: float = PATIENCE_MS / 1000) -> None:
    """Waits with the event loop running, by which pages tell what they show."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert condition()


async def watch(page: Page) -> Sight:
    sight = Sight()
    await page.context.expose_function("saw", lambda named, data: sight.pairs.add((named, data)))
    await page.context.add_init_script(WATCH)
    return sight


@asynccontextmanager
async def slow_part(page: Page) -> AsyncIterator[None]:
    """No part of the page comes within the block; all go on after it."""
    answer = asyncio.Event()

    async def hold(route: Route) -> None:
        await answer.wait()
        await route.continue_()

    await page.route("**/part", hold)
    try:
        yield
    finally:
        answer.set()


async def switch(page: Page, name: str) -> None:
    await page.locator(".cl-organizationSwitcherTrigger").click()
    await page.locator(".cl-organizationSwitcherPreviewButton", has_text=name).click()


async def test_signing_in_brings_the_page_that_the_server_makes_for_the_person(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_contain_text("Acme")
    await expect(page.locator(".cl-userButtonTrigger")).to_be_visible()


async def test_a_strict_content_security_policy_lets_everything_work(page: Page, world: World) -> None:
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text) if "Content Security Policy" in said.text else None)
    await world.sign_in(page, "acme")
    await switch(page, "Globex")
    await expect(page.locator("#data")).to_have_text("Data of globex")
    await page.get_by_role("button", name="New organization").click()
    await expect(page.locator(".cl-createOrganization-root")).to_be_visible()
    assert refused == []


# --- the page follows a switch ----------------------------------------------------------------------------------------


async def test_a_switch_shows_the_new_tenant_and_never_the_old_ones_data_under_its_name(
    page: Page, world: World
) -> None:
    await world.sign_in(page, "acme")
    world.site.delay = 1
    sight = await watch(page)
    await page.reload()
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()
    await switch(page, "Globex")
    await expect(page.locator("#data")).to_have_text("Data of globex")
    await expect(page.locator("#data")).to_be_visible()
    await sight.hold({("Acme", "Data of acme"), ("Globex", "busy"), ("Globex", "Data of globex")})
    assert sight.wrong == set()


async def test_without_hiding_the_old_tenants_data_stands_under_the_new_name(
    page: Page, world: World, change_script: Callable[[str, str], Awaitable[None]]
) -> None:
    await change_script("document.documentElement.dataset.tenantryHides = name;", "")
    await world.sign_in(page, "acme")
    world.site.delay = 1
    sight = await watch(page)
    await page.reload()
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()
    await switch(page, "Globex")
    await expect(page.locator("#data")).to_have_text("Data of globex")
    assert ("Globex", "Data of acme") in sight.wrong


async def test_a_page_that_does_not_come_stays_hidden_and_says_so(
    page: Page, world: World, change_script: Callable[[str, str], Awaitable[None]]
) -> None:
    await change_script("PATIENCE = 10_000", "PATIENCE = 500")
    await world.sign_in(page, "acme", "/other")
    await page.route("**/other", lambda route: route.fulfill(status=204))  # the browser stays where it is
    await switch(page, "Globex")
    notice = page.get_by_role("alert")
    await expect(notice).to_contain_text("takes long")
    await expect(page.locator("#data")).to_be_hidden()
    await page.unroute("**/other")
    await notice.get_by_role("button", name="Reload").click()
    await expect(page.locator("#data")).to_have_text("Data of globex")


async def test_a_component_that_navigates_by_itself_is_left_to_it(page: Page, world: World) -> None:
    await world.sign_in(page, "acme", "/direct")
    sight = await watch(page)
    await page.reload()
    await switch(page, "Globex")
    await page.wait_for_url(f"**/other?org={world.organization('globex')}")
    await expect(page.locator("#data")).to_have_text("Data of globex")
    assert sight.wrong == set()
    assert [path for path, _ in world.site.asked].count("/other") == 1


async def test_a_templated_address_is_gone_to(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    await page.goto(f"{world.url}/orgs/{world.organization('acme')}")
    await switch(page, "Globex")
    await page.wait_for_url(f"**/orgs/{world.organization('globex')}")
    await expect(page.locator("#data")).to_have_text("Data of globex")


async def test_the_personal_account_is_a_tenant_like_others(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    await page.locator(".cl-organizationSwitcherTrigger").click()
    await page.locator(".cl-organizationSwitcherPreviewButton", has_text="Personal").click()
    await expect(page.locator("#data")).to_have_text("Data of personal")


@pytest.mark.parametrize("path", ["/event", "/htmx-2", "/htmx-4"])
async def test_a_page_updates_itself_without_a_moment_of_the_old_data(page: Page, world: World, path: str) -> None:
    await world.sign_in(page, "acme", path)
    sight = await watch(page)
    await page.reload()
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()
    world.site.asked.clear()
    async with slow_part(page):
        await switch(page, "Globex")
        await expect(page.locator("#data")).to_be_hidden()
    await expect(page.locator("#data")).to_have_text("Data of globex")
    await expect(page.locator("#data")).to_be_visible()
    assert sight.wrong == set()
    assert world.site.asked == [("/part", world.organization("globex"))]


@pytest.mark.parametrize("version", [2, 4])
async def test_a_part_that_is_swapped_late_is_waited_for(page: Page, world: World, version: int) -> None:
    await world.sign_in(page, "acme", f"/late-{version}")
    sight = await watch(page)
    await page.reload()
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()
    await switch(page, "Globex")
    await expect(page.locator("#late")).to_have_text("Data of globex")
    await expect(page.locator("#late")).to_be_visible()
    assert sight.wrong == set()


@pytest.mark.parametrize("version", [2, 4])
async def test_going_back_after_a_switch_brings_no_snapshot_of_the_old_tenant(
    page: Page, world: World, version: int
) -> None:
    await world.sign_in(page, "acme", f"/kept-{version}")
    sight = await watch(page)
    await page.reload()
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()
    await page.locator("#next").click()
    await page.wait_for_url("**/other")
    await switch(page, "Globex")
    await expect(page.locator("#data")).to_have_text("Data of globex")
    world.site.asked.clear()
    await page.evaluate("history.back()")
    await until(lambda: (f"/kept-{version}", world.organization("globex")) in world.site.asked)
    await expect(page.locator("#data")).to_have_text("Data of globex")
    await expect(page.locator("#data")).to_be_visible()
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_have_count(1)
    assert sight.wrong == set()


async def test_the_title_goes_with_the_data_and_comes_back_with_it(page: Page, world: World) -> None:
    await world.sign_in(page, "acme", "/event")
    async with slow_part(page):
        await switch(page, "Globex")
        await expect(page.locator("#data")).to_be_hidden()
        assert await page.title() == ""
    await expect(page.locator("#data")).to_have_text("Data of globex")
    await expect(page).to_have_title("Site")


@pytest.mark.parametrize("version", [2, 4])
async def test_an_answer_for_the_old_tenant_that_comes_late_is_not_swapped_in(
    page: Page, world: World, version: int
) -> None:
    await world.sign_in(page, "acme", f"/htmx-{version}")
    sight = await watch(page)
    await page.reload()
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()
    async with slow_part(page):
        async with page.expect_request("**/part"):
            await page.evaluate("htmx.trigger(document.getElementById('data'), 'ask')")
        await switch(page, "Globex")
        await expect(page.locator(".cl-organizationSwitcherTrigger")).to_contain_text("Globex")
    await expect(page.locator("#data")).to_have_text("Data of globex")
    await page.wait_for_timeout(500)
    await expect(page.locator("#data")).to_have_text("Data of globex")
    assert sight.wrong == set()


async def test_without_a_look_at_who_asked_a_late_answer_stands_under_the_new_name(
    page: Page, world: World, change_script: Callable[[str, str], Awaitable[None]]
) -> None:
    await change_script(
        "if (stated !== undefined && stated !== shown.organizationId) return event.preventDefault();", ""
    )
    await world.sign_in(page, "acme", "/htmx-2")
    sight = await watch(page)
    await page.reload()
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()
    world.site.delay = 1
    async with slow_part(page):
        await page.evaluate("htmx.trigger(document.getElementById('data'), 'ask')")
        await switch(page, "Globex")
        await expect(page.locator(".cl-organizationSwitcherTrigger")).to_contain_text("Globex")
    await expect(page.locator("#data")).to_have_text("Data of globex")
    assert ("Globex", "Data of acme") in sight.wrong


async def test_a_switch_nobody_takes_up_reloads_the_page(page: Page, world: World) -> None:
    await page.route("**/page.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    await world.sign_in(page, "acme", "/event")
    await switch(page, "Globex")
    await expect(page.locator("#data")).to_have_text("Data of globex")


async def test_an_update_that_fails_leaves_the_page_hidden_and_offers_to_reload(page: Page, world: World) -> None:
    await world.sign_in(page, "acme", "/event")
    await page.route("**/part", lambda route: route.abort())
    await switch(page, "Globex")
    notice = page.get_by_role("alert")
    await expect(notice).to_contain_text("could not be updated")
    await expect(page.locator("#data")).to_be_hidden()
    await notice.get_by_role("button", name="Reload").click()
    await expect(page.locator("#data")).to_have_text("Data of globex")
    await expect(page.locator("#data")).to_be_visible()


async def test_creating_an_organization_goes_on_to_its_invitations(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    await page.get_by_role("button", name="New organization").click()
    await page.get_by_label("Name").fill("Initech")
    await page.get_by_role("button", name="Create organization").click()
    skip = page.get_by_role("button", name="Skip")
    await expect(skip).to_be_visible()
    await expect(page.locator("#data")).to_be_hidden()
    await skip.click()
    await expect(page.locator("#data")).to_have_text("Data of initech")
    await expect(page.locator("#data")).to_be_visible()


async def test_a_page_without_a_main_element_is_hidden_whole_but_for_clerks_components(
    page: Page, world: World
) -> None:
    await world.sign_in(page, "acme", "/bare")
    await page.locator(".cl-organizationSwitcherTrigger").click()
    await page.get_by_text("Create organization").click()
    await page.get_by_label("Name").fill("Initech")
    await page.get_by_role("button", name="Create organization").click()
    skip = page.get_by_role("button", name="Skip")
    await expect(skip).to_be_visible()
    await expect(page.locator("#data")).to_be_hidden()
    await skip.click()
    await expect(page.locator("#data")).to_have_text("Data of initech")


async def test_closing_the_invitations_of_a_new_organization_turns_the_page_to_it(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    await page.get_by_role("button", name="New organization").click()
    await page.get_by_label("Name").fill("Initech")
    await page.get_by_role("button", name="Create organization").click()
    await expect(page.get_by_role("button", name="Skip")).to_be_visible()
    await page.locator(".cl-modalCloseButton").click()
    await expect(page.locator("#data")).to_have_text("Data of initech")


async def test_an_organization_created_by_a_script_is_followed_at_once(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    create = "Clerk.createOrganization({name: 'Initech', slug: 'initech'})"
    await begin(page, f"() => {create}.then((organization) => Clerk.setActive({{organization}}))")
    await expect(page.locator("#data")).to_have_text("Data of initech")


async def test_the_button_to_create_organizations_goes_where_none_may_be_created(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    button = page.get_by_role("button", name="New organization")
    await expect(button).to_be_visible()
    (ada,) = world.emulator.get("/users", email_address="ada@example.test")
    world.emulator.patch(f"/users/{ada['id']}", {"create_organization_enabled": False})
    await page.reload()
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()
    await expect(button).to_be_hidden()


# --- tabs, requests, forms --------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(context: BrowserContext, world: World) -> tuple[Page, Page]:
    """Two tabs of one browser: the first in Acme and in the background, the second, whose cookie it is, in Globex."""
    first = await context.new_page()
    await world.sign_in(first, "acme", "/form")
    await first.evaluate(BACKGROUND)
    second = await context.new_page()
    await second.goto(f"{world.url}/form")
    await expect(second.locator(".cl-organizationSwitcherTrigger")).to_be_visible()
    await switch(second, "Globex")
    await expect(second.locator("#data")).to_have_text("Data of globex")
    await expect(second.locator(".cl-organizationSwitcherTrigger")).to_have_text("Globex")  # Clerk knows it again
    return first, second


async def test_a_tab_asks_for_its_own_tenants_data_whatever_another_tab_shows(
    tabs: tuple[Page, Page], world: World
) -> None:
    first, second = tabs
    ask = "(fetch) => fetch('/part').then((answer) => answer.text())"
    assert await first.evaluate(f"({ask})(fetch)") == "Data of globex"  # what a page without it gets
    assert await first.evaluate(f"({ask})(tenantry.fetch)") == "Data of acme"
    assert await second.evaluate(f"({ask})(tenantry.fetch)") == "Data of globex"
    await expect(first.locator("#data")).to_have_text("Data of acme")


async def test_a_form_is_saved_for_the_tenant_of_its_tab(tabs: tuple[Page, Page], world: World) -> None:
    first, _ = tabs
    await first.locator("[name=text]").fill("typed in Acme")
    await first.evaluate("document.hasFocus = () => true")
    await first.get_by_role("button", name="Save").click()
    await until(lambda: bool(world.site.saved))
    assert world.site.saved == [(world.organization("acme"), "typed in Acme now")]


async def test_a_tab_that_gets_the_focus_goes_on_in_its_own_organization(tabs: tuple[Page, Page], world: World) -> None:
    first, second = tabs
    await second.evaluate(BACKGROUND)
    await first.evaluate("document.hasFocus = () => true; window.dispatchEvent(new Event('focus'))")
    await first.wait_for_function(COOKIE_IS_OF, arg=world.organization("acme"))  # some time after Clerk's answer
    await first.goto(f"{world.url}/other")
    await expect(first.locator("#data")).to_have_text("Data of acme")
    await expect(first.locator(".cl-organizationSwitcherTrigger")).to_contain_text("Acme")
    await expect(second.locator("#data")).to_have_text("Data of globex")


async def test_a_form_whose_cookie_is_another_tabs_is_refused(tabs: tuple[Page, Page], world: World) -> None:
    first, _ = tabs
    await first.locator("[name=text]").fill("typed in Acme")
    action = f"/save?tenantry_expected_org={world.organization('acme')}"
    async with first.expect_navigation() as navigation:
        await first.evaluate(f"(action) => ({UNGUARDED})(Object.assign(document.forms[0], {{action}}))", action)
    answer = await navigation.value
    assert answer is not None
    assert answer.status == 409
    assert world.site.saved == []


async def test_without_the_guard_a_form_is_saved_for_another_tabs_tenant(tabs: tuple[Page, Page], world: World) -> None:
    first, _ = tabs
    await first.locator("[name=text]").fill("typed in Acme")
    await first.evaluate(f"({UNGUARDED})(document.forms[0])")
    await until(lambda: bool(world.site.saved))
    assert world.site.saved == [(world.organization("globex"), "typed in Acme")]


@pytest_asyncio.fixture(loop_scope="session")
async def forms(page: Page, world: World) -> Page:
    """A tab in Acme, while the cookie is of another one's Globex."""
    await world.sign_in(page, "acme", "/forms")
    await page.evaluate(BACKGROUND)  # or clerk-js writes its own
    await page.evaluate(
        """async ([name, organizationId]) => {
          const token = await Clerk.session.getToken({ organizationId });
          for (const each of ["__session", name]) document.cookie = `${each}=${token}; Path=/; SameSite=Lax`;
        }""",
        [f"__session_{world.site.tenancy.settings.cookie_suffix}", world.organization("globex")],
    )
    assert await page.evaluate("fetch('/part').then((answer) => answer.text())") == "Data of globex"
    await page.evaluate("document.hasFocus = () => true")
    return page


async def test_a_form_sent_by_a_script_is_saved_for_the_tenant_of_its_tab(forms: Page, world: World) -> None:
    await forms.locator("#select select").select_option("b")
    await until(lambda: bool(world.site.saved))
    assert world.site.saved == [(world.organization("acme"), "b")]
    assert world.site.queries == [f"tenantry_expected_org={world.organization('acme')}"]


async def test_a_form_that_waits_is_one_submission_to_the_page_and_its_query_stays(forms: Page, world: World) -> None:
    await forms.locator("#once button").click()
    await forms.wait_for_url("**/form")
    assert await forms.evaluate("sessionStorage.seen") == "1"
    assert world.site.saved == [(world.organization("acme"), "once")]
    assert world.site.queries == [f"flag&q=a%20b&tenantry_expected_org={world.organization('acme')}"]


async def test_fields_named_like_parts_of_a_form_do_not_switch_the_guard_off(forms: Page, world: World) -> None:
    await forms.evaluate(CLOBBERED)  # Playwright could not press it either
    await until(lambda: bool(world.site.saved))
    assert world.site.saved == [(world.organization("acme"), "clobbered")]
    assert world.site.queries == [f"flag&q=a%20b&tenantry_expected_org={world.organization('acme')}"]


async def test_a_refusal_for_another_organization_is_told_and_nothing_typed_is_lost(page: Page, world: World) -> None:
    await world.sign_in(page, "acme", "/form")
    await page.locator("[name=text]").fill("half a sentence")
    status = await page.evaluate(
        "(org) => tenantry.fetch('/part?tenantry_expected_org=' + org).then((answer) => answer.status)",
        world.organization("globex"),
    )
    notice = page.get_by_role("alert")
    assert status == 409
    await expect(notice).to_contain_text("This tab shows Acme")
    await expect(page.locator("[name=text]")).to_have_value("half a sentence")
    await notice.get_by_role("button", name="Close").click()
    await expect(notice).to_have_count(0)


async def test_a_name_is_text_whatever_it_holds(page: Page, world: World) -> None:
    await world.sign_in(page, "acme", "/form")
    world.emulator.patch(f"/organizations/{world.organization('acme')}", {"name": "A$&B$$"})
    await page.evaluate("Clerk.user.reload()")
    await page.evaluate("(org) => tenantry.fetch('/part?tenantry_expected_org=' + org)", world.organization("globex"))
    await expect(page.get_by_role("alert")).to_contain_text("This tab shows A$&B$$,")


async def test_no_token_goes_to_another_origin_by_the_base_of_the_page(new_context: Contexts, world: World) -> None:
    page = await (await new_context(bypass_csp=True)).new_page()
    asked: list[dict[str, str]] = []

    async def note(route: Route) -> None:
        asked.append(route.request.headers)
        await route.fulfill(body="no")

    await page.route("http://localhost:9/**", note)
    await world.sign_in(page, "acme", "/htmx-2")
    ask = "htmx.trigger(document.getElementById('data'), 'ask')"
    await page.evaluate(f"document.head.insertAdjacentHTML('afterbegin', '<base href=http://localhost:9/>'); {ask}")
    await until(lambda: bool(asked))
    assert not {"authorization", "tenantry-expected-org"} & asked[0].keys()


# --- access that ends -------------------------------------------------------------------------------------------------


async def test_a_removed_member_sees_nothing_after_the_next_request(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    world.site.is_removed = True
    assert await page.evaluate("tenantry.fetch('/part').then((answer) => answer.status)") == 403
    await expect(page.get_by_role("alert")).to_contain_text("Your access to Acme has ended")
    await page.evaluate("Clerk.session.getToken({ skipCache: true })")  # Clerk's frontend does not know it yet
    await expect(page.locator("#data")).to_be_hidden()


async def test_a_page_may_react_to_a_refusal_itself(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    world.site.is_removed = True
    code = await page.evaluate(
        """async () => {
          let code;
          document.addEventListener("tenantry:denied", (event) => {
            event.preventDefault();
            code = event.detail.code;
          });
          await tenantry.fetch("/part");
          return code;
        }"""
    )
    assert code == "not_a_member"
    await expect(page.locator("#data")).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)


async def answer_part(page: Page, problem: dict[str, str]) -> None:
    """The next requests for the part are refused so."""
    await page.route("**/part", lambda route: route.fulfill(status=401, json=problem))
    await page.evaluate("tenantry.fetch('/part')")


async def test_a_refusal_of_the_apps_own_is_left_to_it(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    await answer_part(page, {"code": "card_declined"})
    await expect(page.locator("#data")).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_an_expired_token_is_not_the_end_and_the_notice_goes_when_clerk_is_back(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    await answer_part(page, {"type": "urn:tenantry:token_expired", "code": "token_expired"})
    await expect(page.get_by_role("alert")).to_contain_text("could not be updated")
    await expect(page.locator("#data")).to_be_visible()
    await page.evaluate("Clerk.session.getToken({ skipCache: true })")
    await expect(page.get_by_role("alert")).to_have_count(0)
    await expect(page.locator("#data")).to_be_visible()


async def test_signing_out_in_one_tab_empties_the_others(tabs: tuple[Page, Page]) -> None:
    first, second = tabs
    await first.evaluate("document.hasFocus = () => true")
    await second.get_by_role("button", name="Sign out").click()
    await expect(second.locator("#data")).to_have_text("Data of nobody")
    await expect(first.locator("#data")).to_have_text("Data of nobody")


# --- the server's view is behind, or wrong ----------------------------------------------------------------------------


async def test_a_page_made_for_nobody_because_the_token_had_expired_recovers(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    await page.goto("about:blank")
    await page.context.clear_cookies(name=f"__session_{world.site.tenancy.settings.cookie_suffix}")
    await page.context.clear_cookies(name="__session")
    world.site.asked.clear()
    await page.goto(f"{world.url}/other")
    await expect(page.locator("#data")).to_have_text("Data of acme")
    assert world.site.asked == [("/other", None), ("/other", world.organization("acme"))]


async def sign_in_in_vain(page: Page, world: World) -> None:
    """At a server that believes no token of the page's: the page says so, and shows what it came with."""
    await page.goto(world.url)
    ticket = world.ticket("ada")
    await begin(page, SIGN_IN, [ticket, world.organization("acme")])
    await expect(page.get_by_role("alert")).to_contain_text("The server does not accept your session")
    await expect(page.locator("#data")).to_have_text("Data of nobody")
    await expect(page.locator("#data")).to_be_visible()


@pytest.mark.parametrize("changes", [{"authorized_parties": frozenset({"https://elsewhere.example"})}])
async def test_a_server_that_accepts_no_session_is_asked_twice_and_no_more(page: Page, world: World) -> None:
    await sign_in_in_vain(page, world)
    asked = len(world.site.asked)
    await page.wait_for_timeout(2000)
    assert len(world.site.asked) == asked <= 3


async def test_where_the_browser_blocks_storage_a_page_follows_each_switch(page: Page, world: World) -> None:
    await page.add_init_script(NO_STORAGE)
    await world.sign_in(page, "acme")
    for name in ("Globex", "Acme", "Globex"):
        await switch(page, name)
        await expect(page.locator("#data")).to_have_text(f"Data of {name.lower()}")
        await expect(page.locator("#data")).to_be_visible()


@pytest.mark.parametrize("changes", [{"authorized_parties": frozenset({"https://elsewhere.example"})}])
async def test_where_the_browser_blocks_storage_a_server_that_accepts_no_session_is_asked_once(
    page: Page, world: World
) -> None:
    await page.add_init_script(NO_STORAGE)
    await sign_in_in_vain(page, world)
    assert world.site.asked == [("/", None), ("/", None)]  # and once before anybody had signed in


async def test_a_session_that_ended_elsewhere_does_not_live_on_in_the_cookie(page: Page, world: World) -> None:
    await world.sign_in(page, "acme")
    session = await page.evaluate("Clerk.session.id")
    world.emulator.post(f"/sessions/{session}/revoke")
    await page.reload()
    await expect(page.locator("#data")).to_have_text("Data of nobody")


# --- components -------------------------------------------------------------------------------------------------------


async def test_a_component_that_arrives_later_is_mounted_and_one_that_goes_is_unmounted(
    page: Page, world: World
) -> None:
    await world.sign_in(page, "acme")
    await page.evaluate(
        "document.querySelector('main').innerHTML = '<div data-clerk-component=OrganizationList></div>'"
    )
    await expect(page.locator(".cl-organizationList-root")).to_be_visible()
    await page.evaluate(
        """() => {
          window.gone = 0;
          const unmount = Clerk.unmountOrganizationList;
          Clerk.unmountOrganizationList = (node) => { window.gone += 1; unmount(node); };
          document.querySelector("main").innerHTML = "";
        }"""
    )
    await page.wait_for_function("window.gone === 1")


# --- pages that the browser keeps -------------------------------------------------------------------------------------


# What a page that comes back shows at first, told by a listener that is older than any of the page's own.
COMES_BACK = """addEventListener("pageshow", (event) => {
  if (event.persisted) cameBack(getComputedStyle(document.getElementById("data")).visibility);
});"""


@dataclass
class Keeper:
    """A page of a browser that keeps left pages, and what pages that came back showed at first."""

    page: Page
    came_back: list[str] = field(default_factory=list)

    async def leave_and_return(self, url: str, meanwhile: str = "null") -> None:
        """By a page without Clerk: a page with it says something to all, and Chromium drops kept pages then."""
        await self.page.goto(url)
        await self.page.evaluate(meanwhile)
        await self.page.evaluate("history.back()")
        await until(lambda: bool(self.came_back))


@pytest_asyncio.fixture(loop_scope="session")
async def keeper(browser: Browser) -> AsyncIterator[Keeper]:
    flags = ["--no-sandbox", "--disable-features=BackForwardCacheMemoryControls"]
    launched = await browser.browser_type.launch(
        executable_path=find_chromium(), args=flags, ignore_default_args=["--disable-back-forward-cache"]
    )
    keeper = Keeper(await launched.new_page(reduced_motion="reduce"))
    await keeper.page.expose_function("cameBack", lambda shown: keeper.came_back.append(shown))
    await keeper.page.add_init_script(COMES_BACK)
    yield keeper
    async with asyncio.timeout(LIMIT_S):
        await launched.close()


async def test_a_kept_page_of_the_same_tenant_comes_back_as_it_was(keeper: Keeper, world: World) -> None:
    page = keeper.page
    await world.sign_in(page, "acme", "/form")
    await page.locator("[name=text]").fill("half a sentence")
    world.site.asked.clear()
    await keeper.leave_and_return(f"{world.url}/page.js")
    await expect(page.locator("#data")).to_be_visible()
    await expect(page.locator("[name=text]")).to_have_value("half a sentence")
    assert world.site.asked == []


@pytest.mark.parametrize(
    "meanwhile",
    [
        "sessionStorage.setItem('tenantry.shown', 'user_1 org_of_another_page')",
        "for (const pair of document.cookie.split('; ')) document.cookie = pair.split('=')[0] + '=; Max-Age=0; Path=/'",
    ],
    ids=["switched", "signed out"],
)
async def test_a_kept_page_is_hidden_and_made_anew_after_a_change(keeper: Keeper, world: World, meanwhile: str) -> None:
    await world.sign_in(keeper.page, "acme", "/form")
    world.site.asked.clear()
    await keeper.leave_and_return(f"{world.url}/page.js", meanwhile)
    await until(lambda: bool(world.site.asked))
    assert keeper.came_back == ["hidden"]


async def test_a_kept_page_is_made_anew_for_somebody_else_though_it_sees_only_what_was_stored_when_it_was_left(
    keeper: Keeper, world: World
) -> None:
    """As in Firefox, whose kept pages learn nothing of what their tab stored since: here nothing is stored."""
    await world.sign_in(keeper.page, "acme", "/form")
    (grace,) = world.emulator.get("/users", email_address="grace@example.test")
    token = world.emulator.emulator.mint_token(grace["id"], world.organization("acme"), authorized_party=world.url)
    world.site.asked.clear()
    sign_in = "for (const pair of document.cookie.split('; ').filter((pair) => pair.startsWith('__session')))"
    await keeper.leave_and_return(
        f"{world.url}/page.js", f"{sign_in} document.cookie = `${{pair.split('=')[0]}}={token}; Path=/`"
    )
    await until(lambda: bool(world.site.asked))
    assert keeper.came_back == ["hidden"]


async def test_a_button_pressed_before_clerk_is_there_acts_when_it_is(page: Page, world: World) -> None:
    await world.sign_in(page)
    asked, held = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        asked.set()
        await held.wait()
        await route.continue_()

    await page.route("**/v1/client?*", hold)
    await page.reload()
    async with asyncio.timeout(20):
        await asked.wait()
    await expect(page.get_by_role("button", name="New organization")).to_be_hidden()
    await page.get_by_role("button", name="Sign out").click()
    held.set()
    await expect(page.locator("#data")).to_have_text("Data of nobody")


async def test_one_unknown_component_leaves_the_others_and_tokens_alive(page: Page, world: World) -> None:
    await world.sign_in(page)
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text) if "no component" in message.text else None)
    await page.evaluate("""() => {
      for (const name of ["Nonsense", "UserButton"]) {
        document.querySelector("main").insertAdjacentHTML("beforeend", `<div data-clerk-component="${name}"></div>`);
      }
    }""")
    await expect(page.locator("main .cl-userButtonTrigger")).to_be_visible()
    assert await page.evaluate("tenantry.token()")
    assert told == ["Tenantry: Clerk has no component Nonsense."]
