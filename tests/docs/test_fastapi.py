"""The page on FastAPI: its snippets are one app, and the app does what the page says."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest

from databases import Database, Server
from instance import SECRET, Socket, bearer, delivery, fresh_database, joined, removed, signer
from signer import ISSUER, ORIGIN
from snippets import ROOT, blocks
from tenantry import errors

PAGE = "docs/fastapi.md"


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture
async def page(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """All Python of the page as one module, running."""
    monkeypatch.setenv("DATABASE_URL", database.dsn())
    monkeypatch.setenv("CLERK_JWT_KEY", signer().pem)
    monkeypatch.setenv("CLERK_ISSUER", ISSUER)
    monkeypatch.setenv("CLERK_AUTHORIZED_PARTIES", ORIGIN)
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
    module: Any = ModuleType("the_page")
    monkeypatch.setitem(sys.modules, "the_page", module)
    exec(compile("\n".join(blocks(PAGE, "python")), PAGE, "exec"), module.__dict__)
    async with module.lifespan(module.app):
        yield module
    await module.engine.dispose()


@pytest.fixture
async def client(page: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(page.app), base_url="http://app.test") as made:
        yield made


async def test_the_pages_app_keeps_tenants_apart(client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = bearer("user_1", "org_1"), bearer("user_2", "org_2", o={"id": "org_2", "rol": "member"})
    assert (await client.post("/documents?title=of+one", headers=one)).json() == {
        "title": "of one",
        "organization": "org_1",
    }
    assert (await client.get("/documents", headers=one)).json() == ["of one"]
    assert (await client.get("/documents", headers=two)).json() == []
    assert (await client.delete("/documents/1", headers=two)).json()["code"] == "permission_denied"
    may_delete = {"fea": "o:documents", "o": {"id": "org_2", "rol": "admin", "per": "delete", "fpm": "1"}}
    assert (await client.delete("/documents/1", headers=bearer("user_2", "org_2", **may_delete))).status_code == 404
    assert (await client.post("/counts", headers=one)).status_code == 202
    assert capsys.readouterr().out == "org_1: 2 words\n"


async def test_the_pages_public_and_personal_routes_answer(client: httpx.AsyncClient) -> None:
    assert (await client.get("/me", headers=bearer(org_id=None))).json() == "user_1"
    assert (await client.get("/")).json() == "Sign in and choose an organization"
    assert (await client.get("/", headers=bearer())).json() == "Hello org_1"


async def test_the_pages_websocket_ends_with_the_membership(page: Any, client: httpx.AsyncClient) -> None:
    socket = Socket(page.app, "/live", bearer())
    await socket.next()
    assert (await socket.send("hello"))["text"] == "org_1: hello"
    for told in (joined(), removed()):
        headers, body = delivery(told)
        assert (await client.post("/webhooks/clerk", headers=headers, content=body)).status_code == 200
    assert await socket.next() == {"type": "websocket.close", "code": 1008, "reason": "not_a_member"}


def test_the_page_names_every_code_under_its_status() -> None:
    rows = [line for line in (ROOT / PAGE).read_text().splitlines() if line.startswith("| ")]
    kinds = [
        errors.NotAMember,
        errors.PermissionDenied,
        errors.OrganizationMismatch,
        errors.ClerkUnavailable,
        errors.CallRefused,
    ]
    kinds += [*errors.AuthenticationFailed.__subclasses__(), *errors.AccessDenied.__subclasses__()]
    for kind in [*kinds, errors.DatabaseUnavailable, errors.NoTenant]:
        assert any(row.startswith(f"| {kind.status} |") and f"`{kind.code}`" in row for row in rows), kind
