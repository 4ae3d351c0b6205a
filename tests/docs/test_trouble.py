"""The page for 3 am: its commands are there with their options, its Python runs, its screen is what is printed."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import typer.main
from fastapi import FastAPI

from databases import Database, Server
from instance import fresh_database, settings
from snippets import ROOT, blocks
from tenantry.cli import app
from tenantry.fastapi import Tenantry
from tenantry.silence import Silence

PAGE = "docs/trouble.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
COMMANDS = sorted({*re.findall(r"`(tenantry [^`]+)`", TEXT), *re.findall(r"^(tenantry .*)$", TEXT, re.MULTILINE)})


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_is_one(command: str) -> None:
    """Parsed as a shell and the command line would, and not run."""
    words = shlex.split(command.partition("||")[0])[1:]
    found: Any = typer.main.get_group(app)
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
    assert found.name != "tenantry", f"there is no command {words[0]}"
    assert not hasattr(found, "commands") or found.invoke_without_command, f"{command} lacks a command of the group"
    assert found.make_context(found.name, words).args == []


def test_the_screen_of_the_page_has_every_check() -> None:
    [screen] = blocks(PAGE, "text")
    names = [line[:14].strip() for line in screen.splitlines() if line[:14].strip()]
    assert names == [
        *("webhooks", "event types", "dead letters", "refused", "ties"),
        *("reconcile", "feed", "instance", "schema", "isolation"),
    ]
    for name in {*names} - {"webhooks", "instance"}:  # the one has sections of its own, the other is always well
        assert f"`{name} warn`" in TEXT or f"`{name} fail`" in TEXT, name


async def test_the_python_of_the_page_mounts_the_route_and_tells_of_silence(database: Database) -> None:
    sent: list[str] = []

    async def send_mail(text: str) -> None:
        sent.append(text)

    tenancy, served = Tenantry(settings(database, secret_key="sk_test_x")), FastAPI(lifespan=None)
    names: dict[str, Any] = {"tenancy": tenancy, "app": served, "send_mail": send_mail}
    for block in blocks(PAGE, "python"):
        exec(compile(block, PAGE, "exec", dont_inherit=True), names)
    served.add_route("/healthz/tenantry", tenancy.show_health)
    transport = httpx.ASGITransport(served)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as client, tenancy.lifespan():
        answers = [await client.get(path) for path in ("/health/tenantry", "/healthz/tenantry")]
    [told] = blocks(PAGE, "json")
    for answer in answers:
        assert answer.status_code == 200
        assert answer.json().keys() == json.loads(told).keys()
        assert answer.json()["checks"].keys() > json.loads(told)["checks"].keys()
    at = datetime(2026, 5, 1, 3, tzinfo=UTC)
    async with asyncio.timeout(10):
        await names["page_somebody"](Silence(since=at, changed_at=at))
    assert sent == ["No webhook since 03:00, yet Clerk changed at 03:00."]
