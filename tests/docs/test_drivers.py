"""The snippets of the page on psycopg and asyncpg, run as they stand."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from conformance.pgbouncer import bouncing
from databases import APP, OWNER, Database
from snippets import blocks
from sql.tenants import Tenant, isolate, make_tenant, run

PAGE = "docs/drivers.md"


def run_snippet(name: str, **given: Any) -> dict[str, Any]:
    """The names of the one snippet that defines `name`."""
    [snippet] = [block for block in blocks(PAGE, "python") if f"def {name}(" in block or f"class {name}(" in block]
    exec(compile(snippet, PAGE, "exec", dont_inherit=True), given)
    return given


@pytest.fixture
def tenant(database: Database) -> Tenant:
    with database.connect(OWNER) as owner:
        run(owner, "create table documents (id bigint generated always as identity primary key, title text)")
        isolate(owner, "documents")
    return make_tenant(database, "alpha")


async def test_the_pools_of_the_page_work(database: Database, tenant: Tenant) -> None:
    url = database.dsn(APP)
    page = run_snippet("with_asyncpg", database_url=url)
    assert await page["with_asyncpg"](tenant.id) == (["one"], 0)
    page = run_snippet("with_psycopg", database_url=url)
    assert await page["with_psycopg"](tenant.id) == (2, [("one",), ("two",)])
    assert await asyncio.to_thread(page["with_psycopg_and_no_event_loop"], tenant.id) == ("one",)


async def test_the_pool_of_the_page_that_is_not_reset_serves(database: Database, tenant: Tenant) -> None:
    async with run_snippet("Unreset", database_url=database.dsn(APP))["make_pool"]() as pool:
        page = run_snippet("count_on_the_replica")
        assert await page["count_on_the_replica"](pool, tenant.id) == 0
        with pytest.raises(asyncpg.PostgresError) as refused:
            await pool.fetchval("insert into documents (title) values ('') returning 1")
        assert refused.value.sqlstate == "TY001"


@pytest.mark.requires("pgbouncer")
async def test_what_the_page_makes_for_pgbouncer_keeps_no_statement(database: Database, tenant: Tenant) -> None:
    kept = "select count(*) from pg_prepared_statements"
    with bouncing(database) as url:
        page = run_snippet("make_asyncpg_pool", pooler_url=url.removesuffix("?sslmode=disable"))
        async with page["make_asyncpg_pool"]() as pool:
            assert [await pool.fetchval(kept) for _ in range(8)][-1] == 0
        async with page["make_psycopg_pool"]() as pool:
            for _ in range(8):
                async with pool.connection() as connection:
                    assert await (await connection.execute(kept)).fetchone() == (0,)
        for make in (page["make_engine_on_asyncpg"], page["make_engine_on_psycopg"]):
            engine = make()
            for _ in range(8):
                async with engine.connect() as connection:
                    assert await connection.scalar(text(kept)) == 0
            await engine.dispose()
