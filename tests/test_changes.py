"""Handlers of changes: told once for all they write, in their tenant, by one of many workers, whatever dies."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import sessionmaker

from conformance.pgbouncer import bouncing
from databases import APP, SUPERUSER, Database, Server
from instance import Document, World, fresh_database, gone, joined, removed, settings, signer
from sql.clerk_objects import event, user
from telling import consumer, telling, titles, until
from tenantry import changes, mirror
from tenantry.changes import Announcer, Change, make_consumer
from tenantry.context import current_tenant
from tenantry.errors import ConfigurationError, NoTenant, TenantryError
from tenantry.fastapi import Tenantry
from tenantry.mirror import Call


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(changes, "POLL_SECONDS", 0.4)
    monkeypatch.setattr(changes, "_OUTAGE_SECONDS", 0.2)


# --- what a handler is given ------------------------------------------------------------------------------------------


async def test_an_async_handler_writes_into_the_tenant_somebody_joined(database: Database) -> None:
    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        async def greet(change: Change, session: Any) -> None:
            session.add(Document(title=f"{change.user_id} in {current_tenant().org_id}"))
            world.seen.append(change)

    async with telling(database, register) as world:
        await world.deliver(joined("user_1", "org_1"), joined("user_2", "org_2"))
        await until(lambda: len(titles(world)) == 2)
        assert titles(world) == ["user_1 in org_1", "user_2 in org_2"]
        own = "select count(*) from documents d join tenantry.tenants t on t.id = d.tenant_id where d.title like %s"
        assert world.rows(f"{own} and t.clerk_org_id = %s", "user_1%", "org_1") == [(1,)]
        first = world.seen[0]
        assert (first.kind, first.before, first.after["role"], first.cause) == (
            "member.joined",
            None,
            "org:member",
            "webhook",
        )
        assert first.object_id == "orgmem_org_1_user_1"


async def test_a_sync_handler_writes_through_a_sync_session(database: Database) -> None:
    def register(world: World) -> None:
        @world.tenancy.on("member.*")
        def note(change: Change, session: Any) -> None:
            session.add(Document(title=change.kind))

    async with telling(database, register) as world:
        await world.deliver(joined(), removed())
        await until(lambda: titles(world) == ["member.joined", "member.left"])


@pytest.mark.parametrize("kind", ["asyncpg", "psycopg", "psycopg sync"])
async def test_a_handler_writes_through_a_connection_of_a_pool(database: Database, kind: str) -> None:
    statement = "insert into documents (title) values ('by hand')"
    async with (
        asyncpg.create_pool(database.dsn(), min_size=1) as fast,
        AsyncConnectionPool(database.dsn(), open=False, min_size=1) as pool,
    ):
        sync_pool: Any = ConnectionPool(database.dsn(), open=True, min_size=1)
        given = {"asyncpg": fast, "psycopg": pool, "psycopg sync": sync_pool}[kind]

        def register(world: World) -> None:
            if kind == "psycopg sync":

                @world.tenancy.on("member.joined", using=given)
                def write(change: Change, connection: Any) -> None:
                    connection.execute(statement)
            else:

                @world.tenancy.on("member.joined", using=world.tenancy.scoped(given), name="write")
                async def write_later(change: Change, connection: Any) -> None:
                    await connection.execute(statement)

        async with telling(database, register) as world:
            await world.deliver(joined())
            await until(lambda: titles(world) == ["by hand"])
            await until(lambda: consumer(world, "write")["behind"] == 0)
        sync_pool.close()


@pytest.mark.parametrize("waits", [True, False])
async def test_a_handler_may_take_the_change_alone_and_use_the_apps_sessions(database: Database, waits: bool) -> None:
    def register(world: World) -> None:
        async def later(change: Change) -> None:
            async with world.sessions.begin() as session:
                session.add(Document(title="told"))

        def at_once(change: Change) -> None:
            with world.sync_sessions.begin() as session:
                session.add(Document(title="told"))

        world.tenancy.on("member.joined", name="tell")(later if waits else at_once)

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: titles(world) == ["told"])
        await until(lambda: consumer(world, "tell")["behind"] == 0)


async def test_what_concerns_no_tenant_is_told_without_one(database: Database) -> None:
    def register(world: World) -> None:
        @world.tenancy.on("user.created")
        async def look(change: Change, session: Any) -> None:
            assert change.tenant_id is None
            world.seen.append(await session.scalar(text("select current_user")))
            with pytest.raises(NoTenant):
                current_tenant()
            async with session.begin_nested():
                with pytest.raises(StatementError, match="concerns none"):
                    (await session.scalars(select(Document))).all()
            async with world.sessions() as other:
                with pytest.raises(NoTenant):
                    await other.execute(text("select 1"))

    async with telling(database, register) as world:
        await world.deliver(event("user.created", user("user_9")))
        await until(lambda: world.seen)
        await until(lambda: consumer(world, "look")["behind"] == 0)
        assert world.seen == ["app_login"]


async def test_the_tenant_of_a_deleted_organization_is_entered_to_clean_up(database: Database) -> None:
    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        async def begin(change: Change, session: Any) -> None:
            session.add(Document(title="old"))

        @world.tenancy.on("tenant.deleted")
        async def clean_up(change: Change, session: Any) -> None:
            for document in (await session.scalars(select(Document))).all():
                await session.delete(document)

    async with telling(database, register) as world:
        await world.deliver(joined(), joined("user_2", "org_2"))
        await until(lambda: len(titles(world)) == 2)
        await world.deliver(gone("organization", "org_1"))
        await until(lambda: len(titles(world)) == 1)


async def test_a_task_that_outlives_its_handler_has_no_tenant(database: Database) -> None:
    def register(world: World) -> None:
        async def linger() -> None:
            await until(lambda: world.seen)
            async with world.sessions() as session:
                await session.execute(text("select 1"))

        @world.tenancy.on("member.joined")
        async def start(change: Change) -> None:
            world.seen.clear()
            world.app.state.task = asyncio.create_task(linger())

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: consumer(world, "start")["behind"] == 0 and hasattr(world.app.state, "task"))
        await asyncio.sleep(0.1)
        world.seen.append("go")
        with pytest.raises(NoTenant):
            await world.app.state.task


# --- where it starts, and who else is told ----------------------------------------------------------------------------


async def test_a_new_consumer_starts_from_now_or_from_the_beginning(database: Database) -> None:
    async with telling(database, lambda world: None) as world:
        await world.deliver(joined("user_1"))

    def register(world: World) -> None:
        for name, start in (("from_now", "now"), ("from_the_beginning", "beginning")):

            def tell(change: Change, name: str = name) -> None:
                world.seen.append((name, change.user_id))

            world.tenancy.on("member.joined", name=name, start=start)(tell)  # type: ignore[arg-type]

    async with telling(database, register) as world:
        await world.deliver(joined("user_2"))
        await until(lambda: len(world.seen) == 3)
    assert sorted(world.seen) == [
        ("from_now", "user_2"),
        ("from_the_beginning", "user_1"),
        ("from_the_beginning", "user_2"),
    ]


async def test_a_restarted_app_goes_on_where_it_was(database: Database) -> None:
    seen: list[Any] = []

    def register(world: World) -> None:
        world.tenancy.on("member.joined", name="tell")(lambda change: seen.append(change.user_id))

    async with telling(database, register) as world:
        await world.deliver(joined("user_1"))
        await until(lambda: seen)
    async with telling(database, lambda world: None) as world:
        await world.deliver(joined("user_2"))
    async with telling(database, register) as world:
        await until(lambda: len(seen) == 2)
    assert seen == ["user_1", "user_2"]


async def test_a_notice_wakes_who_would_ask_much_later(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "POLL_SECONDS", 1000)

    def register(world: World) -> None:
        world.tenancy.on("member.joined")(_named("tell", lambda change: world.seen.append(change)))

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: world.seen)


async def test_a_change_nobody_announced_is_found_by_asking(database: Database) -> None:
    def register(world: World) -> None:
        world.tenancy.on("member.joined")(_named("tell", lambda change: world.seen.append(change)))

    async with telling(database, register) as world:
        await world.tenancy.pool.run(
            mirror.Call("record_event_v1", ("text", "jsonb"), ("msg_by_hand", mirror.encode(joined())))
        )
        await until(lambda: world.seen)


def _named(name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
    handler.__name__ = name
    return handler


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_a_failing_handler_is_tried_again_and_what_it_wrote_before_is_gone(database: Database) -> None:
    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        async def stumble(change: Change, session: Any) -> None:
            world.seen.append(change.user_id)
            session.add(Document(title=f"attempt {len(world.seen)}"))
            await session.flush()
            if len(world.seen) < 3:
                raise RuntimeError("not yet")

    async with telling(database, register) as world:
        await world.deliver(joined("user_1"))
        await until(lambda: consumer(world, "stumble")["behind"] == 0)
        assert (titles(world), world.seen) == (["attempt 3"], ["user_1"] * 3)
        assert consumer(world, "stumble")["state"] == "reading"


async def test_a_handler_that_keeps_failing_is_parked_and_holds_up_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(changes, "ATTEMPTS", 3)
    broken = True

    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        async def break_down(change: Change, session: Any) -> None:
            world.seen.append(change.user_id)
            if broken and change.user_id == "user_1":
                await session.execute(text("select 1 / 0"))
            session.add(Document(title=f"broken {change.user_id}"))

        @world.tenancy.on("member.joined")
        async def go_on(change: Change, session: Any) -> None:
            session.add(Document(title=f"other {change.user_id}"))

    async with telling(database, register) as world:
        await world.deliver(joined("user_1"), joined("user_2"))
        await until(lambda: consumer(world, "break_down")["state"] == "parked")
        await until(lambda: titles(world) == ["other user_1", "other user_2"])
        await asyncio.sleep(1)
        found = consumer(world, "break_down")
        assert (world.seen, found["attempts"], found["behind"]) == (["user_1"] * 3, 3, 2)
        assert found["failing"]["object_id"] == "orgmem_org_1_user_1"
        assert found["error"].startswith("DBAPIError (22012) in line ")
        assert "test_changes.py" in found["error"]
        assert "'break_down' is parked: its handler failed 3 times" in caplog.text

        await world.tenancy.pool.run(mirror.resume_consumer("break_down"))
        await until(lambda: len(world.seen) == 6)
        broken = False
        await until(lambda: consumer(world, "break_down")["state"] == "parked")
        await world.tenancy.pool.run(mirror.resume_consumer("break_down"))
        await until(lambda: consumer(world, "break_down")["behind"] == 0)
        assert titles(world)[:2] == ["broken user_1", "broken user_2"]


async def test_a_change_that_nobody_can_deal_with_is_skipped(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "ATTEMPTS", 1)

    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        def choke(change: Change) -> None:
            world.seen.append(change.user_id)
            if change.user_id == "user_1":
                raise KeyError("poison")

    async with telling(database, register) as world:
        await world.deliver(joined("user_1"), joined("user_2"))
        await until(lambda: consumer(world, "choke")["state"] == "parked")
        await world.tenancy.pool.run(mirror.resume_consumer("choke", skip=True))
        await until(lambda: consumer(world, "choke")["behind"] == 0)
        assert world.seen == ["user_1", "user_2"]


async def test_what_an_error_says_stands_in_no_table(database: Database) -> None:
    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        def leak(change: Change) -> None:
            raise ValueError("ana@example.test")

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: consumer(world, "leak")["attempts"])
        assert "example" not in str(world.rows("select * from tenantry.consumers"))
        assert consumer(world, "leak")["error"].startswith("ValueError in line")


async def test_a_handler_that_rolls_back_in_silence_has_failed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "ATTEMPTS", 2)

    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        async def undo(change: Change, session: Any) -> None:
            world.seen.append(change.user_id)
            await session.rollback()

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: consumer(world, "undo")["state"] == "parked")
        assert "was not committed" in consumer(world, "undo")["error"]
        assert len(world.seen) == 2


async def test_a_handler_that_is_cancelled_from_within_has_failed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "ATTEMPTS", 1)

    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        async def give_up(change: Change) -> None:
            raise asyncio.CancelledError

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: consumer(world, "give_up")["state"] == "parked")


async def test_a_lost_connection_is_no_lost_change(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tenantry")

    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        async def hold(change: Change, session: Any) -> None:
            world.seen.append(await session.scalar(text("select pg_backend_pid()")))
            session.add(Document(title="held"))
            await session.flush()
            if len(world.seen) == 1:
                await asyncio.to_thread(world.rows, "select pg_terminate_backend(%s)", world.seen[0])

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: consumer(world, "hold")["behind"] == 0)
        assert (titles(world), len(world.seen)) == (["held"], 2)


async def test_an_async_handler_that_takes_too_long_is_cancelled_and_has_failed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "ATTEMPTS", 2)

    def register(world: World) -> None:
        @world.tenancy.on("member.joined", timeout=0.3)
        async def hang(change: Change, session: Any) -> None:
            world.seen.append(change.user_id)
            session.add(Document(title="half"))
            await session.flush()
            await asyncio.sleep(60)

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: consumer(world, "hang")["state"] == "parked")
        assert "took longer than 0.3 seconds" in consumer(world, "hang")["error"]
        assert (titles(world), world.seen) == ([], ["user_1"] * 2)


def _sleep(world: World, session: Any) -> None:
    """Hangs outside the database, until the test is over."""
    assert world.app.state.over.wait(60)


def _sleep_in_a_statement(world: World, session: Any) -> None:
    session.execute(text("select pg_sleep(60)"))


def _go_on_and_on(world: World, session: Any) -> None:
    for _ in range(40):
        session.execute(text("select pg_sleep(0.05)"))


@pytest.mark.parametrize("hang", [_sleep, _sleep_in_a_statement, _go_on_and_on])
async def test_a_thread_that_takes_too_long_commits_nothing_and_holds_up_no_other_worker(
    database: Database, monkeypatch: pytest.MonkeyPatch, hang: Callable[[World, Any], None]
) -> None:
    monkeypatch.setattr(changes, "ATTEMPTS", 2)

    def register(world: World) -> None:
        world.app.state.over = threading.Event()

        @world.tenancy.on("member.joined", timeout=0.5)
        def late(change: Change, session: Any) -> None:
            world.seen.append(change.user_id)
            session.add(Document(title="late"))
            session.flush()
            hang(world, session)

        @world.tenancy.on("member.joined")
        def go_on(change: Change, session: Any) -> None:
            session.add(Document(title="other"))

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: consumer(world, "late")["state"] == "parked")
        await until(lambda: titles(world) == ["other"])
        world.app.state.over.set()
        await asyncio.sleep(0.5)
        assert (titles(world), world.seen) == (["other"], ["user_1"] * 2)


async def test_a_thread_of_short_statements_without_end_is_ended_by_a_server_that_counts_them_all(
    servers: Callable[[int], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL does from version 17 on. A session refuses late statements by itself, a pool's connection does not."""
    monkeypatch.setattr(changes, "ATTEMPTS", 2)
    with fresh_database(servers) as database, ConnectionPool(database.dsn(), min_size=1) as pool:
        if database.server.version < 17:
            pytest.skip("PostgreSQL 17 is the first that counts them all")

        def register(world: World) -> None:
            world.app.state.over = threading.Event()

            @world.tenancy.on("member.joined", using=pool, timeout=0.5)
            def endless(change: Change, connection: Any) -> None:
                while not world.app.state.over.wait(0.02):
                    connection.execute("select 1")

        async with telling(database, register) as world:
            await world.deliver(joined())
            try:
                await until(lambda: consumer(world, "endless")["state"] == "parked")
            finally:
                world.app.state.over.set()


async def test_a_thread_that_has_not_ended_is_not_called_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "ATTEMPTS", 3)

    def register(world: World) -> None:
        world.app.state.over = threading.Event()

        @world.tenancy.on("member.joined", timeout=0.3)
        def late(change: Change) -> None:
            world.seen.append(change.user_id)
            assert world.app.state.over.wait(60)

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: consumer(world, "late")["state"] == "parked")
        world.app.state.over.set()
        assert "An earlier call of the handler has not ended yet" in consumer(world, "late")["error"]
        assert world.seen == ["user_1"]


async def _hold_up_the_loop(session: Any) -> None:
    time.sleep(1)  # noqa: ASYNC251  that is the point


async def _catch_its_cancellation(session: Any) -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(60)


@pytest.mark.parametrize("misbehave", [_hold_up_the_loop, _catch_its_cancellation])
async def test_an_async_handler_that_cannot_be_cancelled_has_taken_too_long(
    database: Database, monkeypatch: pytest.MonkeyPatch, misbehave: Callable[[Any], Any]
) -> None:
    monkeypatch.setattr(changes, "ATTEMPTS", 2)

    def register(world: World) -> None:
        @world.tenancy.on("member.joined", timeout=0.3)
        async def stubborn(change: Change, session: Any) -> None:
            session.add(Document(title="stubborn"))
            await misbehave(session)

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: consumer(world, "stubborn")["state"] == "parked")
        assert "took longer than 0.3 seconds" in consumer(world, "stubborn")["error"]
        assert titles(world) == []


async def test_a_thread_without_a_session_that_takes_too_long_has_failed_and_writes_no_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "ATTEMPTS", 1)
    refused: list[BaseException] = []

    def register(world: World) -> None:
        world.app.state.over = threading.Event()

        @world.tenancy.on("member.joined", timeout=0.3)
        def late(change: Change) -> None:
            assert world.app.state.over.wait(60)
            try:
                with world.sync_sessions.begin() as session:
                    session.add(Document(title="late"))
            except TenantryError as error:
                refused.append(error)

    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: consumer(world, "late")["state"] == "parked")
        world.app.state.over.set()
        await until(lambda: refused)
        assert "has been dealt with" in str(refused[0])
        assert titles(world) == []


async def test_a_shorter_limit_of_the_login_is_left_alone(database: Database) -> None:
    def register(world: World) -> None:
        @world.tenancy.on("member.joined", timeout=90)
        async def look(change: Change, session: Any) -> None:
            names = ("statement_timeout", "idle_in_transaction_session_timeout")
            world.seen.append([await session.scalar(text(f"show {name}")) for name in names])

    with database.connect(SUPERUSER) as connection:
        connection.execute(f"alter role {APP} in database {database.name} set statement_timeout = '4s'")
    async with telling(database, register) as world:
        await world.deliver(joined())
        await until(lambda: world.seen)
        assert world.seen == [["4s", "90s"]]


# --- many workers -----------------------------------------------------------------------------------------------------


async def test_of_many_workers_one_at_a_time_tells_a_consumer_and_each_change_once(database: Database) -> None:
    running, most = 0, 0

    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        async def count(change: Change, session: Any) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(random.random() / 50)
            session.add(Document(title=str(change.user_id)))
            running -= 1

    async with telling(database, register) as one, telling(database, register), telling(database, register):
        await one.deliver(*(joined(f"user_{n:02}") for n in range(20)))
        await until(lambda: consumer(one, "count")["behind"] == 0)
        assert titles(one) == [f"user_{n:02}" for n in range(20)]
        assert most == 1


@pytest.mark.requires("pgbouncer")
async def test_behind_a_pooler_of_transactions_each_change_is_told_once_as_well(database: Database) -> None:
    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        async def note(change: Change) -> None:
            world.seen.append(change.user_id)

    with bouncing(database, size=3) as url:
        async with (
            telling(database, register, database_url=url) as one,
            telling(database, register, database_url=url) as two,
        ):
            await one.deliver(*(joined(f"user_{n}") for n in range(9)))
            await until(lambda: consumer(one, "note")["behind"] == 0)
            assert sorted(one.seen + two.seen) == [f"user_{n}" for n in range(9)]


async def test_a_stopping_app_lets_its_handler_finish(database: Database) -> None:
    def register(world: World) -> None:
        @world.tenancy.on("member.joined")
        async def take_time(change: Change, session: Any) -> None:
            world.seen.append(change.user_id)
            await asyncio.sleep(0.5)
            session.add(Document(title="finished"))

    async with telling(database, register) as world:
        await world.deliver(joined("user_1"), joined("user_2"))
        await until(lambda: world.seen)
    assert (titles(world), world.seen) == (["finished"], ["user_1"])


WORKER = """
import asyncio, os, random, signal, sys
from sqlalchemy import text
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy import create_engine
from tenantry.settings import Settings
from tenantry.starlette import Tenantry

url, deadly, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
tenancy = Tenantry(Settings(jwt_key=sys.argv[4], issuers=("https://x.test",), database_url=url))
where = url.partition("://")[2]
sessions = tenancy.scoped(async_sessionmaker(create_async_engine("postgresql+asyncpg://" + where)))
sync_sessions = tenancy.scoped(sessionmaker(create_engine("postgresql+psycopg://" + where)))
INSERT = text("insert into documents (title) values (:title)")

def perhaps_die():
    if chance.random() < deadly:
        os.kill(os.getpid(), signal.SIGKILL)

@tenancy.on("member.joined", start="beginning")
async def later(change, session):
    perhaps_die()
    await session.execute(INSERT, {"title": f"later {change.user_id}"})
    perhaps_die()

@tenancy.on("member.joined", start="beginning")
def at_once(change, session):
    perhaps_die()
    session.execute(INSERT, {"title": f"at once {change.user_id}"})
    perhaps_die()

async def main():
    async with tenancy.lifespan():
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_workers_killed_at_any_moment_leave_each_effect_once(database: Database) -> None:
    people = 40
    async with telling(database, lambda world: None) as world:
        await world.deliver(*(joined(f"user_{n:02}") for n in range(people)))
        done = "select count(*) from documents"
        url = database.url(driver="psycopg").replace("+psycopg", "")
        workers: list[asyncio.subprocess.Process] = []
        killed = 0
        async with asyncio.timeout(240):
            while world.rows(done) != [(2 * people,)]:
                for worker in [one for one in workers if one.returncode is not None]:
                    assert worker.returncode == -signal.SIGKILL
                    workers.remove(worker)
                    killed += 1
                while len(workers) < 2:
                    arguments = [url, "0.06" if killed < 5 else "0", str(killed + len(workers)), signer().pem]
                    workers.append(await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, *arguments))
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        for worker in workers:
            worker.kill()
            await worker.wait()
        expected = [f"{kind} user_{n:02}" for kind in ("at once", "later") for n in range(people)]
        assert titles(world) == expected
        assert killed > 0, "or nothing was tried"


# --- what cannot be a handler -----------------------------------------------------------------------------------------


def one(change: Change) -> None: ...
def two(change: Change, session: Any) -> None: ...
def three(change: Change, session: Any, more: Any) -> None: ...
def none() -> None: ...
def keyword(*, change: Change) -> None: ...


@pytest.mark.parametrize(
    ("handler", "kinds", "options", "said"),
    [
        (one, ["member.join"], {}, "no changes of the kind member.join"),
        (one, [], {}, "no kind"),
        (one, ["member*"], {}, "member*"),
        (three, ["*"], {}, "takes change, session, more"),
        (none, ["*"], {}, "takes nothing"),
        (keyword, ["*"], {}, "takes change"),
        (lambda change: None, ["*"], {}, "no name"),
        (one, ["*"], {"name": "x" * 201}, "no name"),
        (one, ["*"], {"start": "yesterday"}, "cannot start from 'yesterday'"),
        (one, ["*"], {"timeout": 0}, "cannot have 0 seconds"),
        (one, ["*"], {"timeout": float("nan")}, "cannot have nan seconds"),
    ],
)
def test_what_cannot_be_a_handler_is_refused_in_a_sentence(handler: Any, kinds: Any, options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace("*", r"\*")):
        make_consumer(handler, kinds, **options)


def test_two_handlers_of_one_name_are_refused(database: Database) -> None:
    tenancy = Tenantry(settings(database))
    tenancy.on("member.joined")(one)
    with pytest.raises(ConfigurationError, match="Two handlers are called 'one'"):
        tenancy.on("member.left")(one)
    tenancy.on("member.left", name="another")(one)


async def test_a_handler_whose_session_is_not_known_stops_the_start(database: Database) -> None:
    tenancy = Tenantry(settings(database))
    tenancy.on("member.joined")(two)
    with pytest.raises(ConfigurationError, match="0 sync sources"):
        async with tenancy.lifespan():
            pass
    for _ in range(2):
        tenancy.scoped(sessionmaker(create_engine(database.url())))
    with pytest.raises(ConfigurationError, match="2 sync sources"):
        async with tenancy.lifespan():
            pass


def test_every_kind_the_feed_writes_can_be_asked_for() -> None:
    assert {"member.joined", "invitation.accepted", "tenant.deleted", "permission.updated"} <= changes.KINDS
    assert len(changes.KINDS) == 24


def test_an_announcer_serves_one_event_loop_after_the_other() -> None:
    calls: list[str] = []

    async def answer(call: Call) -> str:
        calls.append(call.function)
        return '{"consumers": 0}'

    announcer = Announcer(answer)

    async def live() -> None:
        announcer.announce()
        await asyncio.sleep(0)
        await announcer.close()

    asyncio.run(live())
    asyncio.run(live())
    asyncio.run(announcer.close())
    assert calls == ["announce_changes_v1"] * 2
