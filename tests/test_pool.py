"""Tenantry's own connections: what they answer, what is left on them, and what an outage looks like."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from databases import SUPERUSER, Database
from relay import Relay
from sql.clerk_objects import event, user
from tenantry import mirror
from tenantry.context import Scope, scope_of, tenant_context
from tenantry.errors import (
    CallRefused,
    DatabaseUnavailable,
    NotAMember,
    NoTenant,
    NotProvisioned,
    TokenExpired,
    UnknownTenant,
)
from tenantry.identity import Identity
from tenantry.mirror import Call
from tenantry.pool import Pool, without_libpq_options
from tenantry.webhooks import Delivery


@asynccontextmanager
async def opened(url: str, **options: float) -> AsyncIterator[Pool]:
    pool = Pool(url, **options)  # type: ignore[arg-type]
    await pool.open()
    yield pool
    await pool.close()


def identity(org_id: str | None = "org_1", user_id: str = "user_1", *, life: int = 60) -> Identity:
    now = int(time.time())
    return Identity(user_id=user_id, org_id=org_id, role="org:member", issued_at=now, expires_at=now + life)


def delivery(told: object, message_id: str = "msg_1") -> Delivery:
    return Delivery(message_id=message_id, sent_at=int(time.time()), type="x", body=mirror.encode(told), event={})


async def test_an_unknown_organization_is_made_known_and_entered(database: Database) -> None:
    async with opened(database.dsn()) as pool:
        context = await pool.enter(scope_of(identity()))
        assert (context.org_id, context.user_id, context.role) == ("org_1", "user_1", "org:member")
        again = await pool.enter(scope_of(identity()))
        assert again.id == context.id


async def test_many_first_requests_at_once_make_one_tenant(database: Database) -> None:
    async with opened(database.dsn()) as pool:
        contexts = await asyncio.gather(*(pool.enter(scope_of(identity(user_id=f"user_{n % 3}"))) for n in range(20)))
    assert len({context.id for context in contexts}) == 1
    with database.connect(SUPERUSER) as connection:
        assert connection.execute("select count(*) from tenantry.tenants").fetchone() == (1,)


async def test_a_denial_comes_back_as_the_error_it_is(database: Database) -> None:
    async with opened(database.dsn()) as pool:
        with pytest.raises(TokenExpired):
            await pool.enter(scope_of(identity(life=-1)))
        with (
            tenant_context("00000000-0000-0000-0000-000000000001", reason="a test") as scope,
            pytest.raises(UnknownTenant),
        ):
            await pool.enter(scope)
        with pytest.raises(NotProvisioned):
            await pool.enter(Scope(key=(None, None), entry=scope_of(identity()).entry))


async def test_a_scope_with_an_error_never_reaches_the_database() -> None:
    with pytest.raises(NotAMember):
        await Pool("postgresql://nobody@127.0.0.1:1/x").enter(Scope(key=(None, None), error=NotAMember()))
    with pytest.raises(NoTenant):
        await Pool("postgresql://nobody@127.0.0.1:1/x").enter(Scope(key=(None, None)))


async def test_a_connection_keeps_nothing_of_the_call_before(database: Database) -> None:
    async with opened(database.dsn(), size=1) as pool:
        await pool.enter(scope_of(identity()))
        assert pool._pool is not None
        async with pool._pool.acquire() as connection:
            left = await connection.fetchrow(
                "select coalesce(current_setting('tenantry.tenant_id', true), ''), current_user::text"
            )
        assert tuple(left) == ("", database.app)


async def test_deliveries_are_recorded_all_or_none(database: Database) -> None:
    async with opened(database.dsn()) as pool:
        told = await pool.record([delivery(event("user.created", user())), delivery({"type": "user.created"}, "msg_2")])
        assert [(one.message_id, one.outcome) for one in told] == [("msg_1", "applied"), ("msg_2", "failed")]


async def test_a_call_the_database_cannot_run_is_no_outage(database: Database) -> None:
    async with opened(database.dsn()) as pool:
        with pytest.raises(CallRefused) as refused:
            await pool.run(Call("set_tenant_v1", ("jsonb",), ("{broken json with a secret",)))
        assert "secret" not in str(refused.value)
        assert refused.value.status == 503


async def test_a_database_that_is_not_there_is_an_outage(free_port: int) -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        await Pool(f"postgresql://somebody:hunter2@127.0.0.1:{free_port}/x").open()
    assert "hunter2" not in str(raised.value)


async def test_a_pool_that_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(DatabaseUnavailable, match="lifespan"):
        await Pool("postgresql://nobody@127.0.0.1:1/x").run(mirror.set_tenant("{}"))


async def test_calls_work_again_after_connections_were_killed(database: Database) -> None:
    async with opened(database.dsn()) as pool:
        await pool.enter(scope_of(identity()))
        with database.connect(SUPERUSER) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'tenantry' and datname = current_database()"
            )
        for _ in range(3):  # a connection whose end is not noticed yet may fail once
            try:
                assert (await pool.enter(scope_of(identity()))).org_id == "org_1"
                break
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
        else:
            pytest.fail("it does not recover")


async def test_a_database_that_stays_silent_is_an_outage_and_heals(database: Database) -> None:
    async with Relay(database) as relay, opened(relay.dsn, timeout=1) as pool:
        await pool.enter(scope_of(identity()))
        relay.mute()
        with pytest.raises(DatabaseUnavailable):
            await pool.enter(scope_of(identity()))
        await relay.restore()
        assert (await pool.enter(scope_of(identity()))).org_id == "org_1"


async def test_a_server_of_ones_own_keeps_statements_prepared(database: Database) -> None:
    async with opened(database.dsn(), size=1) as pool:
        for _ in range(2):
            await pool.enter(scope_of(identity()))
        assert pool._pool is not None
        async with pool._pool.acquire() as connection:
            entered = "select count(*) from pg_prepared_statements where starts_with(statement, $1)"
            assert await connection.fetchval(entered, "select tenantry.set_tenant_v1(") == 1


async def test_what_only_libpq_knows_does_not_reach_asyncpg(database: Database) -> None:
    joint = "&" if "?" in database.dsn() else "?"
    url = f"{database.dsn()}{joint}channel_binding=prefer&connect_timeout=5&keepalives=1&sslmode=disable"
    async with opened(url) as pool:
        assert (await pool.enter(scope_of(identity()))).org_id == "org_1"


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://a:b%40c@h1:1,h2:2/db?channel_binding=require", "postgresql://a:b%40c@h1:1,h2:2/db"),
        ("postgresql:///db?host=/run/pg&gssencmode=disable", "postgresql:///db?host=/run/pg"),
        (
            "postgresql://h/db?sslmode=require&options=-c%20geqo%3Doff",
            "postgresql://h/db?sslmode=require&options=-c%20geqo%3Doff",
        ),
        ("postgresql://h/db", "postgresql://h/db"),
    ],
)
def test_the_address_itself_is_left_as_it_is(url: str, kept: str) -> None:
    assert without_libpq_options(url).replace("%2F", "/") == kept
