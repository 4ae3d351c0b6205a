"""A real browser for tests: one headless Chromium for the run, and a fresh context, without cookies, for each test.

    async def test_the_page_greets(page: Page) -> None:
        await page.goto(url)
        await expect(page.get_by_role("heading")).to_have_text("Hello")

`page` is a tab; `context.new_page()` opens another in the same browser profile, and `new_context(**options)` another
profile (`color_scheme="dark"`, `viewport=PHONE`). After each test it is an error if a page raised an exception nobody
caught, or asked another host than this machine; what a test provokes it takes out of `troubles` itself.

The tests here share one event loop, the browser's. Servers run on threads (`emulator.world.serve`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Error, Page, Request, async_playwright, expect

from conftest import lack

DESKTOP = {"width": 1180, "height": 800}
PHONE = {"width": 390, "height": 844}
PATIENCE_MS = 20_000
LIMIT_S = 120  # of a whole test: what is evaluated in a page that leaves meanwhile may be answered never

Contexts = Callable[..., Awaitable[BrowserContext]]

_FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs this folder's tests in the browser's event loop, each within the limit."""
    for item in items:
        if isinstance(item, pytest.Function) and _HERE in item.path.parents and inspect.iscoroutinefunction(item.obj):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.obj = _limited(item.obj)


def _limited(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def within(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(LIMIT_S):
            await test(*args, **kwargs)

    return within


def find_chromium() -> str:
    """The browser of this machine; skips the test where there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None) or lack("chromium is not installed on this machine")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=find_chromium(), args=_FLAGS)
        yield launched
        async with asyncio.timeout(LIMIT_S):
            await launched.close()


@pytest.fixture
def troubles() -> list[str]:
    """What went wrong in pages, as sentences."""
    return []


@pytest_asyncio.fixture(loop_scope="session")
async def new_context(browser: Browser, troubles: list[str]) -> AsyncIterator[Contexts]:
    made: list[BrowserContext] = []

    async def make(**options: Any) -> BrowserContext:
        context = await browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        context.on("weberror", lambda found: _notice_error(str(found.error), troubles))
        context.on("request", lambda request: _notice_stranger(request, troubles))
        made.append(context)
        return context

    yield make
    found = list(troubles)  # not what a page says while it is left
    async with asyncio.timeout(LIMIT_S):
        for context in made:
            for page in context.pages:
                await _leave(page)
            await context.close()
    assert not found


@pytest_asyncio.fixture(loop_scope="session")
async def context(new_context: Contexts) -> BrowserContext:
    return await new_context()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> Page:
    return await context.new_page()


async def _leave(page: Page) -> None:
    """To a page that goes nowhere by itself: Chromium may never close one that is just then on its way elsewhere."""
    while True:
        try:
            await page.goto("about:blank")
        except Error as error:
            if not any(text in error.message for text in ("interrupted by another navigation", "net::ERR_ABORTED")):
                raise
        else:
            return


def _notice_error(error: str, troubles: list[str]) -> None:
    # What clerk-js loads in a page that is left meanwhile; how Next.js tells itself to show its "not found" page.
    if "Loading chunk" not in error and "NEXT_HTTP_ERROR_FALLBACK;404" not in error:
        troubles.append(f"uncaught: {error}")


def _notice_stranger(request: Request, troubles: list[str]) -> None:
    url = urlsplit(request.url)
    if url.scheme not in ("data", "blob", "about") and url.hostname not in ("127.0.0.1", "localhost"):
        troubles.append(f"asked another host: {url.hostname}")
