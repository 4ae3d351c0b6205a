"""asyncpg pools: how many round trips a tenant costs, and what can never be left on a connection."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.turns import Turns
from databases import SUPERUSER, Server
from sql.tenants import PAST, Connection, Tenant, World, identity, make_documents, membership, open_world, read, record
from tenantry.asyncpg import ScopedPool, _literal, scoped
from tenantry.context import Scope, current_tenant, scope_of, tenant_context, use_scope
from tenantry.errors import NotAMember, NoTenant
from tenantry.identity import Identity

TITLES = "select title from documents order by title"


@pytest.fixture(scope="module")
def world(server: Server, template: str) -> Iterator[World]:
    with open_world(server, template) as made:
        make_documents(made.database, made.a, made.b)
        yield made


def token(tenant: Tenant, **changes: object) -> Scope:
    facts = identity(tenant, **changes)
    return scope_of(Identity(**facts | {"permissions": frozenset()}))


def acting(tenant: Tenant, **changes: object) -> AbstractContextManager[Scope]:
    return use_scope(token(tenant, **changes))


class Unreset(asyncpg.Connection):  # type: ignore[misc]
    def get_reset_query(self) -> str:
        return ""


@asynccontextmanager
async def opened(dsn: str, **options: Any) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(dsn, **{"min_size": 1, "max_size": 1, **options}) as pool:
        yield pool


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Unreset, asyncpg.Connection])
async def test_a_tenant_costs_one_round_trip_and_none_once_the_request_knows_it(world: World, kind: Any) -> None:
    reset = 0 if kind is Unreset else 1
    with Turns(world.database) as turns:
        async with opened(turns.dsn, connection_class=kind) as pool:
            tenants = scoped(pool)
            with acting(world.b):
                await tenants.fetch(TITLES)  # asyncpg prepares each statement once
            turns.restart()
            async with pool.acquire() as connection, connection.transaction():
                await connection.fetch("select 1")
            without = turns.count - 1
            assert without == 3 + reset
            with acting(world.a):
                for _ in range(2):
                    turns.restart()
                    assert [tuple(row) for row in await tenants.fetch(TITLES)] == [("alpha",)]
                    first = turns.count
                    turns.restart()
                    async with tenants.transaction() as connection:
                        await connection.fetch(TITLES)
                    assert turns.count == without
            assert first == without


async def test_the_first_transaction_of_a_scope_asks_and_a_jobs_always_does(world: World) -> None:
    with Turns(world.database) as turns:
        async with opened(turns.dsn, connection_class=Unreset) as pool:
            tenants = scoped(pool)
            for scope, after in ((acting(world.a), 3), (tenant_context(world.a.id, reason="a test"), 4)):
                with scope as running:
                    await tenants.fetch(TITLES)
                    running.context = None
                    turns.restart()
                    await tenants.fetch(TITLES)
                    assert turns.count == 4
                    turns.restart()
                    await tenants.fetch(TITLES)
                    assert turns.count == after


async def test_without_a_tenant_nothing_is_sent_and_no_connection_is_taken(world: World) -> None:
    with Turns(world.database) as turns:
        async with opened(turns.dsn) as pool, pool.acquire():  # the only one
            turns.restart()
            tenants = scoped(pool)
            with pytest.raises(NoTenant):
                await tenants.fetch(TITLES)
            with pytest.raises(NoTenant):
                async with tenants.transaction():
                    pytest.fail("it began")
            with use_scope(Scope(key=(None, None), error=NotAMember())), pytest.raises(NotAMember):
                await tenants.execute(TITLES)
            assert turns.count == 0


# --- what it does -----------------------------------------------------------------------------------------------------


async def test_single_statements_write_and_read_as_asyncpg_does(world: World) -> None:
    async with opened(world.database.dsn()) as pool:
        tenants = scoped(pool)
        with acting(world.b):
            assert await tenants.execute("insert into documents (title) values ($1)", "one") == "INSERT 0 1"
            await tenants.executemany("insert into documents (title) values ($1)", [("two",), ("three",)])
            assert [row["title"] for row in await tenants.fetch(TITLES)] == ["bravo", "one", "three", "two"]
            assert dict(await tenants.fetchrow("select title from documents where title = $1", "one") or ()) == {
                "title": "one"
            }
            assert await tenants.fetchval("select 1, title from documents order by title", column=1) == "bravo"
            assert await tenants.execute("delete from documents where title <> 'bravo'", timeout=5) == "DELETE 3"
            assert await tenants.fetchrow("select title from documents where false") is None
            assert current_tenant().org_id == world.b.org_id


async def test_options_hold_for_their_transaction_alone(world: World) -> None:
    shown = "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    async with opened(world.database.dsn()) as pool:
        tenants = scoped(pool)
        with acting(world.a):
            for _ in range(2):
                async with tenants.transaction(isolation="serializable", readonly=True, deferrable=True) as connection:
                    assert tuple(await connection.fetchrow(shown)) == ("serializable", "on")
            assert tuple(await tenants.fetchrow(shown) or ()) == ("read committed", "off")


async def test_a_session_that_is_read_only_by_default_makes_its_organization_known_all_the_same(world: World) -> None:
    async with opened(world.database.dsn(), server_settings={"default_transaction_read_only": "on"}) as pool:
        with acting(Tenant("", "org_read_only", "user_read_only", "ghost")):
            assert await scoped(pool).fetch(TITLES) == []
            assert current_tenant().org_id == "org_read_only"
            assert await scoped(pool).fetchval("show transaction_read_only") == "on"


@pytest.mark.parametrize("known", [False, True])
async def test_savepoints_inside_are_asyncpgs_own(world: World, known: bool) -> None:
    async with opened(world.database.dsn()) as pool:
        tenants = scoped(pool)
        with acting(world.a):
            if known:
                await tenants.fetch(TITLES)
            async with tenants.transaction(isolation="repeatable_read") as connection:
                with pytest.raises(asyncpg.UniqueViolationError):
                    async with connection.transaction():
                        await connection.execute(
                            "insert into documents (id, title) overriding system value"
                            " select id, 'twice' from documents"
                        )
                async with connection.transaction(isolation="repeatable_read"):
                    await connection.execute("insert into documents (title) values ('kept')")
                with pytest.raises(asyncpg.InterfaceError):
                    await connection.transaction(isolation="serializable").start()
            assert [row["title"] for row in await tenants.fetch(TITLES)] == ["alpha", "kept"]
            await tenants.execute("delete from documents where title = 'kept'")
        await expect_clean(pool)


async def test_two_transactions_of_one_task_take_two_connections(world: World) -> None:
    async with opened(world.database.dsn(), max_size=2) as pool:
        tenants = scoped(pool)
        with acting(world.a):
            async with tenants.transaction() as one:
                with acting(world.b):
                    async with tenants.transaction() as other:
                        assert await other.fetchval(TITLES) == "bravo"
                assert await one.fetchval(TITLES) == "alpha"


async def test_many_tasks_share_a_pool_and_never_each_others_tenant(world: World) -> None:
    async with opened(world.database.dsn(), max_size=3) as pool:
        tenants = scoped(pool)

        async def ask(tenant: Tenant) -> None:
            with acting(tenant):
                for _ in range(10):
                    assert await tenants.fetchval(TITLES) == tenant.sentinel
                    assert current_tenant().org_id == tenant.org_id

        await asyncio.gather(*(ask(tenant) for tenant in [world.a, world.b] * 5))


async def test_tasks_of_one_request_work_side_by_side(world: World) -> None:
    async with opened(world.database.dsn(), max_size=3) as pool:
        tenants = scoped(pool)

        async def work() -> None:
            for _ in range(5):
                async with tenants.transaction() as connection:
                    await connection.execute("select pg_sleep(0.001)")
                    assert current_tenant().org_id == world.a.org_id
                assert await tenants.fetchval(TITLES) == "alpha"

        with acting(world.a):
            await asyncio.gather(*(work() for _ in range(6)))


async def test_one_prepared_statement_answers_each_tenant_with_its_own(world: World) -> None:
    async with opened(world.database.dsn(), connection_class=Unreset) as pool:
        for tenant in [world.a, world.b, world.a]:
            with acting(tenant):
                assert await scoped(pool).fetchval(TITLES) == tenant.sentinel
        async with pool.acquire() as connection:
            kept = "select count(*) from pg_prepared_statements where statement = $1"
            assert await connection.fetchval(kept, TITLES) == 1
            with pytest.raises(asyncpg.PostgresError) as refused:
                await connection.fetch(TITLES)
        assert refused.value.sqlstate == "TY001"


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
async def test_a_refused_user_runs_nothing_and_the_scope_forgets_its_tenant(
    world: World, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    member = Tenant(world.a.id, world.a.org_id, f"user_leaving_{known}", "")
    with world.connect() as app:
        move(app, member, "created", PAST)
        async with opened(world.database.dsn()) as pool:
            tenants = scoped(pool)
            with acting(member, issued_at=int(time.time()) - 30) as scope:
                if known:
                    await tenants.fetch(TITLES)
                move(app, member, "deleted", 10)
                for _ in range(2):
                    with pytest.raises(NotAMember) as refused:
                        await tenants.fetch("select pg_notify('ran', '')")
                    assert refused.value.__suppress_context__
                    assert scope.context is None
                with pytest.raises(NotAMember):
                    async with tenants.transaction():
                        pytest.fail("it began")
            await expect_clean(pool)
    assert caplog.records == []


async def test_a_lost_connection_is_replaced(world: World) -> None:
    async with opened(world.database.dsn()) as pool:
        with acting(world.a):
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
                await ended(pool, world)
            assert await scoped(pool).fetchval(TITLES) == "alpha"


async def ended(pool: asyncpg.Pool, world: World) -> None:
    async with scoped(pool).transaction() as connection:
        with world.connect(SUPERUSER) as superuser:
            superuser.execute("select pg_terminate_backend(%s)", [connection.get_server_pid()])
        await connection.fetch(TITLES)


async def whole(tenants: ScopedPool) -> None:
    async with tenants.transaction() as connection:
        await connection.fetch(TITLES)


async def of_a_known_tenant(tenants: ScopedPool) -> None:
    await tenants.fetch(TITLES)
    await tenants.fetch(TITLES)


async def of_a_new_organization(tenants: ScopedPool) -> None:
    with acting(Tenant("", f"org_{uuid4().hex}", "user_new", "new")):
        await tenants.fetch(TITLES)


Work = Callable[[ScopedPool], Awaitable[None]]


@pytest.mark.parametrize("work", [whole, of_a_known_tenant, of_a_new_organization])
async def test_cancelled_while_any_answer_is_awaited_nothing_half_entered_returns(world: World, work: Work) -> None:
    reached = 0
    with Turns(world.database) as turns:
        async with opened(turns.dsn) as pool:
            for number in range(1, 20):
                with acting(world.b):  # the connection has served another
                    assert await scoped(pool).fetchval(TITLES) == "bravo"
                turns.restart(keep_back=number)
                with acting(world.a):
                    task = asyncio.ensure_future(work(scoped(pool)))
                kept = asyncio.create_task(asyncio.to_thread(turns.kept_back.wait, 10))
                await asyncio.wait([task, kept], return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    turns.kept_back.set()
                    break
                reached = number
                task.cancel()
                turns.release()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await expect_clean(pool)
    assert reached >= {"whole": 4, "of_a_known_tenant": 8, "of_a_new_organization": 9}[work.__name__]


@pytest.mark.parametrize("work", [whole, of_a_known_tenant])
async def test_cancelled_at_any_step_nothing_half_entered_returns(world: World, work: Work) -> None:
    async with opened(world.database.dsn()) as pool:
        for steps in range(60):
            with acting(world.a):
                task = asyncio.ensure_future(work(scoped(pool)))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await expect_clean(pool)


# --- literals ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def superuser(world: World) -> Iterator[Connection]:
    with world.connect(SUPERUSER) as connection:
        yield connection


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.text("'\\$E\"; -/*\n"),
    conforming=st.booleans(),
)
def test_a_literal_reads_as_the_text_it_was_made_of(superuser: Connection, text: str, conforming: bool) -> None:
    superuser.execute(f"set standard_conforming_strings = {conforming}")
    assert read(superuser, f"select{_literal(text)}") == text
    facts = json.dumps({"org_slug": text}, ensure_ascii=False)
    assert read(superuser, f"select{_literal(facts)}::jsonb ->> 'org_slug'") == text


def test_no_text_at_all_is_null(superuser: Connection) -> None:
    assert read(superuser, f"select {_literal(None)} is null") is True


@pytest.mark.parametrize("conforming", ["on", "off"])
async def test_a_slug_full_of_quotes_is_a_slug(world: World, conforming: str) -> None:
    slug = "';--\\' E'$$ \\\\'); drop table documents; --"
    async with opened(world.database.dsn(), server_settings={"standard_conforming_strings": conforming}) as pool:
        with acting(world.a, org_slug=slug):
            for _ in range(2):
                assert await scoped(pool).fetchval(TITLES) == "alpha"


# --- what is looked at afterwards -------------------------------------------------------------------------------------


def move(app: Connection, member: Tenant, verb: str, ago: float) -> None:
    told = membership(f"orgmem_{member.user_id}", member.org_id, member.user_id)
    assert record(app, f"organizationMembership.{verb}", told, time.time() - ago) == "applied"


async def expect_clean(pool: asyncpg.Pool) -> None:
    """The next borrower gets a connection that is in no transaction and in no tenant."""
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.fetch(TITLES)
        assert refused.value.sqlstate == "TY001"
        assert await connection.fetchval("select current_user = session_user")
        async with connection.transaction(isolation="serializable"):  # no savepoint in a transaction left behind
            pass
