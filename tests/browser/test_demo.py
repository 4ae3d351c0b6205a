"""What `tenantry dev` opens into when it is given no app of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from dev.runs import UP, running


@pytest.mark.requires("npm")
async def test_a_newcomer_signs_in_writes_a_note_and_loses_it_by_switching(page: Page, open_tmp_path: Path) -> None:
    with running(open_tmp_path) as run:
        run.read_until(UP)
        await page.goto(run.app_url)
        await page.get_by_role("button", name="Seeded person").click()
        await page.get_by_text("ada@example.test").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Notes of Globex")

        await page.get_by_label("Note").fill("hello <b>world</b>")
        await page.get_by_role("button", name="Add").click()
        await expect(page.get_by_text("hello <b>world</b>")).to_be_visible()

        await page.locator(".cl-organizationSwitcherTrigger").click()
        await page.locator(".cl-organizationSwitcherPreviewButton", has_text="Acme").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Notes of Acme")
        await expect(page.get_by_text("hello")).to_have_count(0)
