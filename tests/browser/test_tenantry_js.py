"""`tenantry.js` in a real browser, with Clerk's real frontend against the emulator: what a person sees, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import BrowserContext, Error, Page, Route, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from browser.site import Site
from emulator.world import Running, serve, wait_until
from tenantry.emulator import bundles
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
BACKGROUND = "document.hasFocus = () => false;"  # Playwright tells every page that it has the focus


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
        await unless_it_leaves(page.evaluate(SIGN_IN, [self.ticket(name), org]))
        await expect(page.locator("#data")).to_have_text(f"Data of {organization or 'personal'}")
        await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()


@dataclass
class Sight:
    """What could be read on a page: pairs of the organization named and the data."""

    pairs: set[tuple[str, str]] = field(default_factory=set)

    async def hold(self, pairs: set[tuple[str, str]]) -> None:
        """Waits until all these have been seen."""
        deadline = time.monotonic() + 10
        while not pairs <= self.pairs and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert pairs <= self.pairs

    @property
    def wrong(self) -> set[tuple[str, str]]:
        told = {(named, data) for named, data in self.pairs if named and data != "busy"}
        return {(named, data) for named, data in told if named.lower() not in data.lower()}


@pytest.fixture
def htmx(tmp_path: Path) -> dict[int, Path]:
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
    routes = [Mount("/__clerk/npm", bundles.create_app(Bundles())), Mount("/", create_app(emulator))]
    with serve(Starlette(routes=routes)) as emulator_url:
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


async def unless_it_leaves(done: Awaitable[Any]) -> None:
    """A page may turn to the next while a script of ours runs in it."""
    try:
        await done
    except Error as error:
        if "context was destroyed" not in error.message and "navigation" not in error.message:
            raise


async def watch(page: Page) -> Sight:
    sight = Sight()
    await page.context.expose_function("saw", lambda named, data: sight.pairs.add((named, data)))
    await page.context.add_init_script(WATCH)
    return sight


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
    world.site.delay = 0.5
    world.site.asked.clear()
    await switch(page, "Globex")
    await expect(page.locator("#data")).to_be_hidden()
    await expect(page.locator("#data")).to_have_text("Data of globex")
    await expect(page.locator("#data")).to_be_visible()
    assert sight.wrong == set()
    assert world.site.asked == [("/part", world.organization("globex"))]


@pytest.mark.parametrize("version", [2, 4])
async def test_an_answer_for_the_old_tenant_that_comes_late_is_not_swapped_in(
    page: Page, world: World, version: int
) -> None:
    await world.sign_in(page, "acme", f"/htmx-{version}")
    sight = await watch(page)
    await page.reload()
    await expect(page.locator(".cl-organizationSwitcherTrigger")).to_be_visible()
    world.site.delay = 2
    await page.evaluate("htmx.trigger(document.getElementById('data'), 'ask')")
    await page.locator(".cl-organizationSwitcherTrigger").click()
    wait_until(lambda: ("/part", world.organization("acme")) in world.site.asked)
    await page.locator(".cl-organizationSwitcherPreviewButton", has_text="Globex").click()
    await expect(page.locator("#data")).to_have_text("Data of globex")
    await page.wait_for_timeout(500)
    await expect(page.locator("#data")).to_have_text("Data of globex")
    assert sight.wrong == set()


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
