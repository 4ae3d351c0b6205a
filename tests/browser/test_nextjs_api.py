"""Next.js in front of a FastAPI that owns the data, in a real browser: the app that the page on Next.js makes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from browser import nextjs
from browser.conftest import Contexts
from browser.nextjs import Web
from browser.stage import CHOICE, SWITCHER, Person, Visitor
from conftest import lack
from databases import ANY, APP, OWNER, SUPERUSER, Database, Server
from docs.nextjs_app import API, follow, make_fresh, read_section
from examples.deployment import deploy
from tenantry import schema
from tenantry.emulator.bundles import Bundles, BundleUnavailable

pytestmark = pytest.mark.requires("chromium", "node", "npm")

FRONT = Path(__file__).parent / "nextjs_front"


class Tab(Visitor):
    """Somebody's tab on the Next.js app."""

    async def enter(self, person: Person, organization: str = "") -> None:
        await super().enter(person)
        await self.open(f"/orgs/{organization}")

    async def open_tab(self) -> Tab:
        return Tab(await self.page.context.new_page(), self.stage)

    async def sees(self, *titles: str) -> None:
        """On the page, which the server made, and in the count, which the browser asked for."""
        await expect(self.page.locator("main li")).to_have_text([*titles])
        await expect(self.page.get_by_text(f"{len(titles)} documents")).to_be_visible()

    async def add(self, title: str) -> None:
        await self.page.get_by_label("Title").fill(title)
        await self.page.get_by_role("button", name="Add").click()
        await expect(self.page.locator("main li", has_text=title)).to_be_visible()


@pytest.fixture(scope="module")
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    server = servers(ANY)
    made = server.create()
    with made.connect(SUPERUSER) as connection:
        schema.install(connection, app_roles=[APP, OWNER])
    yield made
    server.drop(made)


@pytest.fixture(scope="module")
def front(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    try:
        Bundles().prefetch()
    except BundleUnavailable as error:
        lack(f"Clerk's scripts cannot be had: {error}")
    source = make_fresh(tmp_path_factory.mktemp("fresh") / "app")
    follow(source, read_section(API), lambda text: None)
    built = nextjs.build("front", tmp_path_factory, FRONT, source=source)
    port = nextjs.free_port()
    origin = f"http://localhost:{port}"
    with deploy(database, settings={"membership_required": False}, CLERK_AUTHORIZED_PARTIES=origin) as deployment:
        variables = deployment.clerk.emulator.instance.nextjs_environment(deployment.clerk.url) | {
            "TENANTRY_API_URL": deployment.url,
            "TENANTRY_EMULATOR_URL": deployment.clerk.url,
        }
        with nextjs.serve(built, tmp_path_factory.mktemp("served") / "front", port, variables) as url:
            yield Web(deployment, url)


@pytest_asyncio.fixture(loop_scope="session")
async def tab(new_context: Contexts, front: Web) -> AsyncIterator[Tab]:
    context = await new_context()
    yield Tab(await context.new_page(), front)


async def test_what_fastapi_has_is_shown_and_what_is_added_is_there(tab: Tab, front: Web) -> None:
    ada, acme, _ = write_in_two_organizations(front)
    await tab.enter(ada, acme)
    await tab.sees("Plans of Acme")
    await tab.add("Written in Next.js")
    assert front.titles(ada, acme) == ["Written in Next.js", "Plans of Acme"]


async def test_after_a_switch_page_and_browser_ask_for_the_new_organization(tab: Tab, front: Web) -> None:
    ada, acme, globex = write_in_two_organizations(front)
    front.write(ada, globex, "More of Globex")
    await tab.enter(ada, acme)
    await tab.sees("Plans of Acme")
    await tab.page.locator(SWITCHER).click()
    await tab.page.locator(CHOICE, has_text="Globex").click()
    await tab.page.wait_for_url(f"{front.url}/orgs/{globex}")
    await tab.sees("More of Globex", "Plans of Globex")
    await expect(tab.page.get_by_text("Plans of Acme")).to_have_count(0)


async def test_a_tab_behind_asks_and_writes_in_its_own_organization(tab: Tab, front: Web) -> None:
    ada, acme, globex = write_in_two_organizations(front)
    front.write(ada, globex, "More of Globex")
    await tab.enter(ada, acme)
    await tab.sees("Plans of Acme")
    other = await tab.open_tab()
    await other.open(f"/orgs/{globex}")
    await other.sees("More of Globex", "Plans of Globex")
    for one in (tab, other):
        await one.share_focus()
    await other.page.bring_to_front()
    assert (await other.token())["o"]["id"] == globex
    await tab.add("From behind")
    assert front.titles(ada, acme) == ["From behind", "Plans of Acme"]
    assert front.titles(ada, globex) == ["More of Globex", "Plans of Globex"]


async def test_another_organizations_page_does_not_exist(tab: Tab, front: Web) -> None:
    ada, zoe = front.person("Ada"), front.person("Zoe")
    acme, globex = front.organization("Acme", ada), front.organization("Globex", zoe)
    front.write(zoe, globex, "Plans of Globex")
    await tab.enter(ada, acme)
    answer = await tab.page.goto(f"{front.url}/orgs/{globex}")
    assert answer is not None
    assert answer.status == 404
    assert "Plans of Globex" not in await answer.text()


async def test_who_is_removed_reads_nothing_more(tab: Tab, front: Web) -> None:
    ada, grace = front.person("Ada"), front.person("Grace")
    acme = front.organization("Acme", ada, editor=grace)
    front.write(ada, acme, "Plans of Acme")
    await tab.enter(grace, acme)
    await tab.sees("Plans of Acme")
    token = front.token(grace, acme)
    front.deployment.clerk.delete(front.membership(acme, grace))
    front.deployment.settle()
    told = front.ask(f"/orgs/{acme}", token)
    assert (told.status_code, "Plans of Acme" in told.text) == (404, False)
    page = await tab.page.request.get(f"{front.url}/orgs/{acme}")  # by the cookie, and without what its scripts do next
    assert (page.status, "Plans of Acme" in await page.text()) == (404, False)
    await tab.open(f"/orgs/{acme}")
    await expect(tab.page.get_by_text(re.compile("Plans of Acme"))).to_have_count(0)


def write_in_two_organizations(front: Web) -> tuple[Person, str, str]:
    """Ada, Acme and Globex, in each of which she has written."""
    ada = front.person("Ada")
    acme, globex = (front.organization(name, ada) for name in ("Acme", "Globex"))
    front.write(ada, acme, "Plans of Acme")
    front.write(ada, globex, "Plans of Globex")
    return ada, acme, globex
