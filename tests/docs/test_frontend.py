"""The page on the switcher: its app, its template and its policy, as they stand."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from instance import bearer, signer
from signer import ISSUER
from snippets import ROOT, blocks
from tenantry.browser import Page

PAGE = "docs/frontend.md"
KEY = "pk_test_" + base64.b64encode(b"happy-otter-12.clerk.accounts.dev$").decode()


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """All Python of the page as one module, in a folder with its template."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "home.html").write_text(blocks(PAGE, "html")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")  # the page's app asks it nothing
    monkeypatch.setenv("CLERK_PUBLISHABLE_KEY", KEY)
    monkeypatch.setenv("CLERK_JWT_KEY", signer().pem)
    monkeypatch.setenv("CLERK_ISSUER", ISSUER)
    module: Any = ModuleType("the_page")
    monkeypatch.setitem(sys.modules, "the_page", module)
    exec(compile("\n".join(blocks(PAGE, "python")), PAGE, "exec"), module.__dict__)
    return module


async def test_the_pages_template_offers_to_sign_in_and_then_to_switch(page: Any) -> None:
    transport = httpx.ASGITransport(page.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as client:
        unknown = (await client.get("/")).text
        known = (await client.get("/", headers=bearer())).text
    assert 'data-clerk-component="SignIn"' in unknown
    assert 'data-clerk-component="OrganizationSwitcher"' in known
    assert 'data-user-id="user_1" data-organization-id="org_1"' in known
    assert "data-clerk-open" in known


def test_the_pages_policy_names_clerk_and_the_apps_own_source(page: Any) -> None:
    assert "https://happy-otter-12.clerk.accounts.dev" in page.policy
    assert "https://cdn.example.com" in page.policy


def test_every_tag_that_the_page_names_exists() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:clerk\.)?([a-z_]+)\(", text)) - {"fetch", "token"}
    tags = {name for name in vars(Page) if not name.startswith("_") and callable(getattr(Page, name))}
    assert named - tags <= {"scripts"}
    assert tags <= named


def test_every_message_that_the_page_names_is_one_of_the_scripts() -> None:
    script = (ROOT / "src" / "tenantry" / "static" / "tenantry.js").read_text(encoding="utf-8")
    table = script.partition("const TEXT = {")[2].partition("};")[0]
    told = (ROOT / PAGE).read_text(encoding="utf-8").partition("`messages` replaces")[2].partition(";")[0]
    assert set(re.findall(r"`(\w+)`", told)) == set(re.findall(r"^  (\w+):", table, re.MULTILINE))
