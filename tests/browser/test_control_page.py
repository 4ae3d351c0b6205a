"""The emulator's control page with its script: nothing reloads, what is typed stays, and changes show themselves."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.async_api import Dialog, Page, expect

from browser.conftest import PHONE, Contexts
from conftest import lack
from emulator.world import Running, serve
from tenantry.emulator.app import create_app
from tenantry.emulator.bundles import Bundles, BundleUnavailable
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.settings import Options

pytestmark = pytest.mark.requires("chromium", "npm")

LEFT = "window.stayed = true"
STAYED = "window.stayed === true"


@pytest.fixture(scope="module")
def bundles() -> None:
    try:
        Bundles().prefetch()
    except BundleUnavailable as error:
        lack(str(error))


@pytest.fixture
def running(bundles: None) -> Iterator[Running]:
    emulator = Emulator(options=Options(rate_limits=False))
    with serve(create_app(emulator, app_url="http://127.0.0.1:8000")) as url, httpx.Client() as client:
        yield Running(emulator, url, client)
    emulator.close()


async def open_page(page: Page, url: str) -> None:
    await page.goto(url)
    await page.wait_for_function("window.htmx !== undefined")
    await page.evaluate(LEFT)


async def test_a_refused_form_says_why_and_keeps_what_was_typed(page: Page, running: Running) -> None:
    await open_page(page, running.url)
    await page.get_by_text("New person").click()
    await page.get_by_label("E-mail", exact=True).fill("ada@example.test")
    await page.get_by_label("First name").fill("Another")
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("alert")).to_have_text("That email address is taken. Please try another.")
    await expect(page.get_by_label("First name")).to_have_value("Another")
    await page.get_by_label("E-mail", exact=True).fill("another@example.test")
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("link", name="Another")).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)
    assert await page.evaluate(STAYED)
    assert page.url == f"{running.url}/"


async def test_what_changes_elsewhere_shows_itself_and_a_form_in_use_stays(page: Page, running: Running) -> None:
    await open_page(page, running.url)
    await page.get_by_text("New person").click()
    await page.get_by_label("First name").fill("half a na")
    await page.request.post(f"{running.url}/emulator/users", data={"email_address": "kay@new.test"})
    await expect(page.get_by_role("link", name="kay@new.test")).to_be_visible()
    await expect(page.get_by_label("First name")).to_have_value("half a na")
    await expect(page.get_by_label("First name")).to_be_focused()
    assert await page.evaluate(STAYED)


async def test_a_member_is_removed_and_a_person_deleted_after_a_question(page: Page, running: Running) -> None:
    questions: list[str] = []

    async def agree(dialog: Dialog) -> None:
        questions.append(dialog.message)
        await dialog.accept()

    page.on("dialog", agree)
    await open_page(page, f"{running.url}/organizations")
    await page.get_by_role("link", name="Acme").click()
    await page.get_by_role("row", name="Grace").get_by_role("button", name="Remove").click()
    await expect(page.get_by_role("row", name="Grace")).to_have_count(0)
    await page.get_by_role("link", name="People", exact=True).click()
    await page.get_by_role("link", name="Grace Hopper").click()
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("heading", name="People")).to_be_visible()
    await expect(page.get_by_text("Grace Hopper")).to_have_count(0)
    assert len(questions) == 1
    assert await page.evaluate(STAYED)


async def test_one_click_leads_to_the_app_with_a_ticket(page: Page, running: Running) -> None:
    await page.context.route("http://127.0.0.1:8000/**", lambda route: route.fulfill(body="the app"))
    await open_page(page, running.url)
    async with page.expect_popup() as opened:
        await page.get_by_role("button", name="Acme Admin").click()
    app = await opened.value
    await app.wait_for_url("http://127.0.0.1:8000/__clerk/v1/tickets/accept?ticket=*")
    assert len(running.emulator.store.state.sign_in_tokens) == 1


async def test_a_token_counts_down_to_its_end(page: Page, running: Running) -> None:
    await open_page(page, f"{running.url}/tokens")
    await page.get_by_label("Expires in").fill("-60")
    await page.get_by_role("button", name="Make a token").click()
    await expect(page.get_by_text("expired", exact=True)).to_be_visible()
    await page.get_by_label("Expires in").fill("600")
    await page.get_by_role("button", name="Make a token").click()
    await expect(page.get_by_text("expires in 59")).to_be_visible()


async def test_no_page_is_wider_than_a_phone_or_breaks_its_own_policy(new_context: Contexts, running: Running) -> None:
    context = await new_context(viewport=PHONE, color_scheme="dark")
    page = await context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    running.emulator.webhooks.add_endpoint("http://127.0.0.1:9/" + "webhooks/" * 20)
    user = next(iter(running.emulator.store.state.users))
    organization = running.emulator.store.organizations.create("W" * 100, created_by=user)
    delivery = running.emulator.webhooks.deliveries()[-1]
    paths = ["/", "/organizations", "/roles", "/webhooks", "/tokens", "/settings"]
    for path in [*paths, f"/people/{user}", f"/organizations/{organization.id}", f"/webhooks/{delivery.id}"]:
        await open_page(page, running.url + path)
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    assert said == []
