"""An app that knows no tenants becomes multi-tenant by five lines and a migration."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from databases import OWNER, SUPERUSER, Database, Server
from instance import SECRET, bearer, delivery, fresh_database, joined, removed, signer
from signer import ISSUER, ORIGIN
from sql.clerk_objects import event, organization

FOLDER = Path(__file__).parent / "foreign_app"
_names = count()


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture(autouse=True)
def environment(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app logs in as the owner of its tables, before and after: most apps do."""
    monkeypatch.setenv("DATABASE_URL", database.url(OWNER, "asyncpg"))
    monkeypatch.setenv("CLERK_JWT_KEY", signer().pem)
    monkeypatch.setenv("CLERK_ISSUER", ISSUER)
    monkeypatch.setenv("CLERK_AUTHORIZED_PARTIES", ORIGIN)
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)


def load(name: str) -> ModuleType:
    """One of the app's two states, as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"foreign_app_{next(_names)}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def running(module: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(module.app)
    async with (
        module.app.router.lifespan_context(module.app),
        httpx.AsyncClient(transport=transport, base_url="http://app.test") as client,
    ):
        yield client
    await module.engine.dispose()


async def create_tables(module: Any) -> None:
    async with module.engine.begin() as connection:
        await connection.run_sync(module.Base.metadata.create_all)
        await connection.execute(module.Language.__table__.insert(), [{"code": "en", "name": "English"}])


def migrate(database: Database) -> None:
    with database.connect(OWNER) as connection:
        connection.execute((FOLDER / "migration.sql").read_bytes())


def test_at_most_five_lines_change() -> None:
    before, after = ((FOLDER / f"{name}.py").read_text().splitlines() for name in ("app", "multitenant"))
    changes = [line for line in difflib.ndiff(before, after) if line[0] in "+-" and line[1:].strip()]
    assert 0 < len([line for line in changes if line[0] == "+"]) <= 5
    assert len([line for line in changes if line[0] == "-"]) <= 5


async def test_before_it_has_one_customer_and_no_sign_in() -> None:
    module = load("app")
    await create_tables(module)
    async with running(module) as client:
        number = (await client.post("/notebooks", json={"title": "Trips"})).json()
        assert (await client.post(f"/notebooks/{number}/notes", json={"text": "Lisbon"})).status_code == 201
        assert (await client.get("/notebooks")).json() == ["Trips"]
        assert (await client.get(f"/notebooks/{number}")).json() == ["Lisbon"]


async def test_afterwards_each_organization_has_its_own(database: Database) -> None:
    single = load("app")
    await create_tables(single)
    async with running(single) as client:
        old = (await client.post("/notebooks", json={"title": "Old times"})).json()
        await client.post(f"/notebooks/{old}/notes", json={"text": "before tenants"})
    with database.connect(SUPERUSER) as connection:  # the mirror has seen the first customer
        connection.execute(
            "select tenantry.merge_page_v1('organizations', %s::text::jsonb, %s::text::jsonb)",
            [
                '[{"id": "org_first", "name": "First", "created_at": 1, "updated_at": 1}]',
                '{"observed_at": 1786000000000}',
            ],
        )
    migrate(database)

    first, second = bearer("user_first", "org_first"), bearer("user_second", "org_second")
    async with running(load("multitenant")) as client:
        assert (await client.get("/notebooks", headers=first)).json() == ["Old times"]
        assert (await client.get(f"/notebooks/{old}", headers=first)).json() == ["before tenants"]
        assert (await client.get("/notebooks", headers=second)).json() == []
        assert (await client.get("/notebooks/count", headers=second)).json() == 0

        created = await client.post("/notebooks", json={"title": "Second's own"}, headers=second)
        new = created.json()
        assert (await client.post(f"/notebooks/{new}/notes", json={"text": "hi"}, headers=second)).status_code == 201
        assert (await client.get(f"/notebooks/{new}", headers=second)).json() == ["hi"]
        for other, number in ((first, new), (second, old)):
            assert (await client.get(f"/notebooks/{number}", headers=other)).status_code == 404
            assert (await client.delete(f"/notebooks/{number}", headers=other)).status_code == 404
            answer = await client.post(f"/notebooks/{number}/notes", json={"text": "intruder"}, headers=other)
            assert answer.status_code == 404
        assert (await client.get("/notebooks", headers=first)).json() == ["Old times"]
        for both in (first, second):
            assert (await client.get("/languages", headers=both)).json() == ["English"]
        assert (await client.delete(f"/notebooks/{new}", headers=second)).status_code == 204


async def test_afterwards_nobody_is_let_in_without_a_token_or_membership(database: Database) -> None:
    await create_tables(load("app"))
    with database.connect(OWNER) as connection:
        connection.execute("select tenantry.isolate_table_v1('notebooks'), tenantry.isolate_table_v1('notes')")
    async with running(load("multitenant")) as client:
        for method, path in (("GET", "/notebooks"), ("GET", "/notebooks/1"), ("DELETE", "/notebooks/1")):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (401, "missing_token")
        valid = bearer()
        assert (await client.get("/notebooks", headers=valid)).status_code == 200
        for told in (event("organization.created", organization()), joined(), removed()):
            headers, body = delivery(told)
            assert (await client.post("/webhooks/clerk", headers=headers, content=body)).status_code == 200
        answer = await client.get("/notebooks", headers=valid)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_a_member")
