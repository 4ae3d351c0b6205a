"""psycopg pools, sync and async: how many round trips a tenant costs, and what can never be left on a connection."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg.adapt import Dumper
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, NullConnectionPool

from conformance.turns import Turns
from databases import OWNER, SUPERUSER, Server
from sql.tenants import Tenant, World, identity, isolate, make_documents, open_world, run
from tenantry.context import Scope, current_tenant, scope_of, tenant_context, use_scope
from tenantry.errors import NotAMember, NoTenant
from tenantry.identity import Identity
from tenantry.mirror import set_tenant_by_id
from tenantry.psycopg import AsyncScopedPool, ScopedPool, scoped

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


@asynccontextmanager
async def opened(dsn: str, **options: Any) -> AsyncIterator[AsyncConnectionPool[Any]]:
    async with AsyncConnectionPool(dsn, **{"min_size": 1, "max_size": 1, "open": False, **options}) as pool:
        await pool.wait()
        yield pool


@pytest.fixture
def sync_pool(world: World) -> Iterator[ConnectionPool[Any]]:
    with ConnectionPool(world.database.dsn(), min_size=1, max_size=1, open=True) as pool:
        yield pool


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [False, True])
async def test_a_transaction_in_a_tenant_costs_no_more_round_trips_than_one_without(
    world: World, autocommit: bool
) -> None:
    with Turns(world.database) as turns:
        async with opened(turns.dsn, kwargs={"autocommit": autocommit}) as pool:
            for _ in range(8):  # on the way psycopg prepares them, with a round trip more
                turns.restart()
                async with pool.connection() as connection, connection.transaction():
                    await connection.execute("select 1")
                without = turns.count
                turns.restart()
                with acting(world.a):
                    async with scoped(pool).transaction() as connection:
                        await connection.execute(TITLES)
                assert turns.count == without <= 4
            assert without == 3


async def test_a_single_statement_in_a_tenant_is_one_round_trip(world: World) -> None:
    with Turns(world.database) as turns:
        async with opened(turns.dsn) as pool:
            for _ in range(8):
                turns.restart()
                with acting(world.a):
                    assert await scoped(pool).fetchall(TITLES) == [("alpha",)]
                assert turns.count == 1


def test_a_single_statement_of_a_sync_pool_is_one_round_trip(world: World) -> None:
    with Turns(world.database) as turns, ConnectionPool(turns.dsn, min_size=1, max_size=1, open=True) as pool:
        pool.wait()
        for _ in range(8):
            turns.restart()
            with acting(world.a):
                assert scoped(pool).fetchall(TITLES) == [("alpha",)]
            assert turns.count == 1
        turns.restart()
        with acting(world.a), scoped(pool).transaction() as connection:
            connection.execute(TITLES)
        assert turns.count == 3


async def test_without_a_tenant_nothing_is_sent_and_no_connection_is_taken(world: World) -> None:
    with Turns(world.database) as turns:
        async with opened(turns.dsn) as pool, pool.connection():  # the only one
            turns.restart()
            tenants = scoped(pool)
            with pytest.raises(NoTenant):
                await tenants.fetchall(TITLES)
            with pytest.raises(NoTenant):
                async with tenants.transaction():
                    pytest.fail("it began")
            with use_scope(Scope(key=(None, None), error=NotAMember())):
                with pytest.raises(NotAMember):
                    await tenants.execute(TITLES)
                with pytest.raises(NotAMember):
                    async with tenants.transaction():
                        pytest.fail("it began")
            assert turns.count == 0


# --- single statements ------------------------------------------------------------------------------------------------


async def test_single_statements_write_and_read_as_psycopg_does(world: World) -> None:
    async with opened(world.database.dsn(), kwargs={"row_factory": dict_row}) as pool:
        tenants = scoped(pool)
        assert isinstance(tenants, AsyncScopedPool)
        with acting(world.b):
            assert await tenants.execute("insert into documents (title) values (%s), (%s)", ["one", "two"]) == 2
            assert await tenants.fetchone(TITLES) == {"title": "bravo"}
            assert await tenants.fetchall("select title from documents where title = %(t)s", {"t": "one"}) == [
                {"title": "one"}
            ]
            assert await tenants.execute("delete from documents where title <> 'bravo'") == 2
            assert await tenants.fetchone("select title from documents where false") is None
            assert await tenants.fetchall("update documents set title = title") == []
            assert await tenants.fetchone("update documents set title = title") is None
            with pytest.raises(psycopg.ProgrammingError):
                await tenants.execute("update documents set title = ''; commit")
            assert current_tenant().org_id == world.b.org_id


def test_single_statements_of_a_sync_pool_do_too(world: World, sync_pool: ConnectionPool[Any]) -> None:
    tenants = scoped(sync_pool)
    assert isinstance(tenants, ScopedPool)
    with acting(world.b):
        assert tenants.execute("insert into documents (title) values (%s)", ["one"]) == 1
        assert tenants.fetchone("delete from documents where title = 'one' returning title") == ("one",)
        assert tenants.fetchone(TITLES) == ("bravo",)


async def test_a_statement_that_fails_leaves_nothing_of_its_transaction(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(world.database.dsn()) as pool:
        for _ in range(8):
            with acting(world.a), pytest.raises(psycopg.errors.DivisionByZero):
                await scoped(pool).execute("select 1 / %s", [0])
            await expect_clean(pool)
    assert caplog.records == []


async def test_what_a_statement_of_ones_own_is_refused_is_psycopgs_error(world: World) -> None:
    async with opened(world.database.dsn()) as pool:
        with acting(world.a), pytest.raises(psycopg.Error) as refused:
            await scoped(pool).execute("select tenantry.bypass_tenant_v1('a try')")
        assert refused.value.sqlstate == "TY002"
        await expect_clean(pool)


async def test_a_commit_that_fails_is_an_error(world: World) -> None:
    with world.connect(OWNER) as owner:
        run(owner, "create table numbers (n int)")
        isolate(owner, "numbers")
        run(owner, "alter table numbers add unique (tenant_id, n) deferrable initially deferred")
    async with opened(world.database.dsn()) as pool:
        with acting(world.a), pytest.raises(psycopg.errors.UniqueViolation):
            await scoped(pool).execute("insert into numbers values (1), (1)")
        await expect_clean(pool)
        with acting(world.a):
            assert await scoped(pool).fetchone("select count(*) from numbers") == (0,)


# --- transactions -----------------------------------------------------------------------------------------------------


async def test_options_hold_for_their_transaction_alone(world: World) -> None:
    shown = "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    async with opened(world.database.dsn()) as pool:
        tenants = scoped(pool)
        with acting(world.a):
            async with tenants.transaction(
                isolation_level=IsolationLevel.SERIALIZABLE, read_only=True, deferrable=True
            ) as connection:
                assert await (await connection.execute(shown)).fetchone() == ("serializable", "on")
            assert await tenants.fetchone(shown) == ("read committed", "off")


async def test_what_a_connection_is_set_to_holds(world: World) -> None:
    async def configure(connection: Any) -> None:
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)

    shown = "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    async with opened(world.database.dsn(), configure=configure) as pool:
        with acting(world.a):
            assert await scoped(pool).fetchone(shown) == ("repeatable read", "on")
        ghost = Tenant("", "org_read_only", "user_read_only", "ghost")
        with acting(ghost):  # made known all the same
            assert await scoped(pool).fetchall(TITLES) == []
            assert current_tenant().org_id == "org_read_only"


async def test_server_cursors_streams_and_copies_work_inside(world: World) -> None:
    async with opened(world.database.dsn()) as pool:
        with acting(world.a):
            async with scoped(pool).transaction() as connection:
                async with connection.cursor("named") as cursor:
                    await cursor.execute(TITLES)
                    assert await cursor.fetchall() == [("alpha",)]
                assert [row async for row in connection.cursor().stream(TITLES)] == [("alpha",)]
                async with connection.cursor().copy("copy (select title from documents) to stdout") as copy:
                    assert [row async for row in copy.rows()] == [("alpha",)]
        await expect_clean(pool)


async def test_a_session_that_is_read_only_by_default_makes_its_organization_known_all_the_same(world: World) -> None:
    kwargs = {"options": "-c default_transaction_read_only=on"}
    async with opened(world.database.dsn(), kwargs=kwargs) as pool:
        with acting(Tenant("", "org_by_default", "user_by_default", "ghost")):
            assert await scoped(pool).fetchall(TITLES) == []
            assert current_tenant().org_id == "org_by_default"
            assert await scoped(pool).fetchone("show transaction_read_only") == ("on",)


async def test_a_commit_in_the_middle_leaves_the_tenant(world: World) -> None:
    async with opened(world.database.dsn()) as pool:
        with acting(world.a):
            async with scoped(pool).transaction() as connection:
                await connection.commit()
                with pytest.raises(psycopg.Error) as refused:
                    await connection.execute(TITLES)
        assert refused.value.sqlstate == "TY001"
        await expect_clean(pool)


async def test_two_transactions_of_one_task_take_two_connections(world: World) -> None:
    async with opened(world.database.dsn(), max_size=2) as pool:
        tenants = scoped(pool)
        with acting(world.a):
            async with tenants.transaction() as one:
                with acting(world.b):
                    async with tenants.transaction() as other:
                        assert one is not other
                        assert await (await other.execute(TITLES)).fetchall() == [("bravo",)]
                assert await (await one.execute(TITLES)).fetchall() == [("alpha",)]


async def test_many_tasks_share_a_pool_and_never_each_others_tenant(world: World) -> None:
    async with opened(world.database.dsn(), max_size=3) as pool:
        tenants = scoped(pool)

        async def ask(tenant: Tenant) -> None:
            with acting(tenant):
                for _ in range(10):
                    assert await tenants.fetchall(TITLES) == [(tenant.sentinel,)]
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
                assert await tenants.fetchall(TITLES) == [("alpha",)]

        with acting(world.a):
            await asyncio.gather(*(work() for _ in range(6)))


def test_threads_share_a_sync_pool_and_a_thread_without_a_tenant_is_refused(
    world: World, sync_pool: ConnectionPool[Any]
) -> None:
    told: list[BaseException] = []

    def ask() -> None:
        try:
            scoped(sync_pool).fetchall(TITLES)
        except NoTenant as refused:
            told.append(refused)

    with acting(world.a):
        thread = threading.Thread(target=ask)  # does not inherit the context
        thread.start()
        thread.join()
    assert len(told) == 1


async def test_one_prepared_statement_answers_each_tenant_with_its_own(world: World) -> None:
    async with opened(world.database.dsn(), kwargs={"prepare_threshold": 0}) as pool:
        for tenant in [world.a, world.b, world.a]:
            with acting(tenant):
                assert await scoped(pool).fetchall(TITLES) == [(tenant.sentinel,)]
        async with pool.connection() as connection:
            prepared = await (
                await connection.execute("select count(*) from pg_prepared_statements where statement = %s", [TITLES])
            ).fetchone()
        assert prepared == (1,)
        with pytest.raises(psycopg.Error) as refused:
            async with pool.connection() as connection:
                await connection.execute(TITLES)
        assert refused.value.sqlstate == "TY001"


def test_a_pool_that_keeps_no_connections_will_do(world: World) -> None:
    with NullConnectionPool(world.database.dsn(), open=True) as pool, acting(world.a):
        assert scoped(pool).fetchall(TITLES) == [("alpha",)]


@pytest.mark.parametrize("factory", [psycopg.AsyncRawCursor, psycopg.AsyncClientCursor])
async def test_the_pools_own_cursors_and_rows_do_not_matter_to_the_entering_call(world: World, factory: Any) -> None:
    kwargs = {"cursor_factory": factory, "row_factory": dict_row}
    async with opened(world.database.dsn(), kwargs=kwargs) as pool:
        with acting(world.a):
            assert await scoped(pool).fetchall(TITLES) == [{"title": "alpha"}]
            async with scoped(pool).transaction() as connection:
                assert await (await connection.execute(TITLES)).fetchall() == [{"title": "alpha"}]


async def test_where_libpq_cannot_pipeline_statements_are_sent_one_by_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psycopg.Pipeline, "is_supported", lambda: False)
    with Turns(world.database) as turns:
        async with opened(turns.dsn) as pool:
            turns.restart()
            with acting(world.a):
                assert await scoped(pool).fetchall(TITLES) == [("alpha",)]
                assert turns.count == 4
            with pytest.raises(NotAMember), tenant_context(world.a.id, reason="a test", user_id=world.b.user_id):
                await scoped(pool).fetchall(TITLES)
            await expect_clean(pool)


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_refused_user_runs_nothing_and_the_scope_forgets_its_tenant(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(world.database.dsn()) as pool:
        tenants = scoped(pool)
        with acting(world.a) as scope:
            await tenants.fetchall(TITLES)
            assert scope.context is not None
            scope.entry = set_tenant_by_id(UUID(world.a.id), "a test", world.b.user_id)  # as if removed since
            for _ in range(8):
                with pytest.raises(NotAMember) as refused:
                    await tenants.execute("select pg_notify('ran', '')")
                assert refused.value.__suppress_context__
                assert scope.context is None
                with pytest.raises(NotAMember):
                    async with tenants.transaction():
                        pytest.fail("it began")
            await expect_clean(pool)
    assert caplog.records == []


class Slow:
    """A parameter that takes its time: a refusal arrives before the statement is sent."""


class SlowDumper(Dumper):
    def dump(self, obj: Slow) -> bytes:
        time.sleep(0.1)
        return b"slow"


def test_a_refusal_that_arrives_early_stops_what_has_not_been_sent(
    world: World, sync_pool: ConnectionPool[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with sync_pool.connection() as connection:
        connection.adapters.register_dumper(Slow, SlowDumper)
    tenants = scoped(sync_pool)
    with tenant_context(world.a.id, reason="a test", user_id=world.b.user_id), pytest.raises(NotAMember):
        tenants.execute("insert into documents (title) values (%s)", [Slow()])
    with acting(world.a):
        assert tenants.fetchall(TITLES) == [("alpha",)]
    assert caplog.records == []


async def test_a_lost_connection_is_replaced(world: World) -> None:
    async with opened(world.database.dsn()) as pool:
        with acting(world.a):
            with pytest.raises(psycopg.OperationalError):
                await ended(pool, world)
            assert await scoped(pool).fetchall(TITLES) == [("alpha",)]


async def ended(pool: AsyncConnectionPool[Any], world: World) -> None:
    async with scoped(pool).transaction() as connection:
        with world.connect(SUPERUSER) as superuser:
            superuser.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
        await connection.execute(TITLES)


async def whole(tenants: AsyncScopedPool[Any]) -> None:
    async with tenants.transaction() as connection:
        await connection.execute(TITLES)


async def one_shot(tenants: AsyncScopedPool[Any]) -> None:
    await tenants.fetchall(TITLES)


async def of_a_new_organization(tenants: AsyncScopedPool[Any]) -> None:
    with acting(Tenant("", f"org_{uuid4().hex}", "user_new", "new")):
        await tenants.fetchall(TITLES)


Work = Callable[[AsyncScopedPool[Any]], Awaitable[None]]


@pytest.mark.parametrize("work", [whole, one_shot, of_a_new_organization])
async def test_cancelled_while_any_answer_is_awaited_nothing_half_entered_returns(world: World, work: Work) -> None:
    reached = 0
    with Turns(world.database) as turns:
        async with opened(turns.dsn) as pool:
            for number in range(1, 7):
                await scoped_as(world.b, pool)  # the connection has served another
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
    assert reached >= {"whole": 3, "one_shot": 1, "of_a_new_organization": 5}[work.__name__]


@pytest.mark.parametrize("work", [whole, one_shot])
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


async def scoped_as(tenant: Tenant, pool: AsyncConnectionPool[Any]) -> None:
    with acting(tenant):
        assert await scoped(pool).fetchall(TITLES) == [(tenant.sentinel,)]


async def expect_clean(pool: AsyncConnectionPool[Any]) -> None:
    """The next borrower gets a connection that is in no transaction, in psycopg's usual mode, and in no tenant."""
    async with pool.connection() as connection:
        assert connection.info.transaction_status is TransactionStatus.IDLE
        assert connection.autocommit is False
        with pytest.raises(psycopg.Error) as refused:
            await connection.execute(TITLES)
        assert refused.value.sqlstate == "TY001"
        await connection.rollback()
        left = await connection.execute("select current_user = session_user")
        assert await left.fetchone() == (True,)
