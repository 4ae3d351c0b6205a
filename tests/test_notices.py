"""The connection that listens for ended access: proved by a probe, reopened when it breaks, told of when it is deaf."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conformance.pgbouncer import bouncing
from databases import SUPERUSER, Database, Server
from instance import fresh_database
from relay import Relay
from tenantry import mirror, notices
from tenantry.notices import Notices
from tenantry.pool import Pool

NOTIFY = "select pg_notify('tenantry_endings', %s)"


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr(notices, "_LONGEST_PAUSE", 0.5)


@asynccontextmanager
async def listening(database: Database, url: str | None = None) -> AsyncIterator[tuple[Notices, list[str]]]:
    """A listener at `url`, whose probes go to the database itself; and what it heard."""
    heard: list[str] = []
    pool = Pool(database.dsn())
    await pool.open()
    made = Notices(url or database.dsn(), heard=heard.append, probe=lambda nonce: pool.run(mirror.probe_endings(nonce)))
    made.start()
    made.start()
    yield made, heard
    await made.close()
    await pool.close()


async def until(holds: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


def notify(database: Database, subject: str) -> None:
    with database.connect() as connection:
        connection.execute(NOTIFY, [subject])


def listeners(database: Database) -> list[int]:
    with database.connect(SUPERUSER) as connection:
        rows = connection.execute("select pid from pg_stat_activity where application_name = 'tenantry notices'")
        return [pid for (pid,) in rows]


async def test_a_notice_is_heard_and_the_first_is_for_everybody(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tenantry")
    async with listening(database) as (made, heard):
        await until(lambda: made.arriving)
        notify(database, "user_1")
        await until(lambda: len(heard) == 2)
        assert len(listeners(database)) == 1
    assert heard == ["*", "user_1"]
    assert listeners(database) == []
    assert caplog.text == ""


async def test_a_strangers_probe_proves_nothing_and_is_no_subject(database: Database) -> None:
    async with listening(database) as (made, heard):
        await until(lambda: made.arriving)
        notify(database, "probe of-somebody-else")
        notify(database, "org_1")
        await until(lambda: "org_1" in heard)
    assert heard == ["*", "org_1"]


async def test_a_server_that_hangs_up_or_falls_silent_is_left_for_a_new_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notices, "_HEARTBEAT_SECONDS", 0.5)
    async with Relay(database) as relay, listening(database, relay.dsn) as (made, heard):
        for loss in (relay.cut(), asyncio.to_thread(relay.mute)):
            await until(lambda: made.arriving)
            await loss
            await until(lambda: not made.arriving)
            await relay.cut()
            await relay.restore()
        await until(lambda: made.arriving)
        notify(database, "user_1")
        await until(lambda: heard[-1] == "user_1")
    assert heard == ["*", "*", "*", "user_1"]
    assert caplog.text.count("do not arrive") == 2


async def test_a_database_that_is_away_at_first_is_found_later_and_warned_of_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with Relay(database) as relay:
        await relay.cut()
        async with listening(database, relay.dsn) as (made, heard):
            await asyncio.sleep(2)
            assert not made.arriving
            await relay.restore()
            await until(lambda: made.arriving)
    assert heard == ["*"]
    assert caplog.text.count("do not arrive") == 1
    assert "app_login" not in caplog.text


async def test_a_probe_that_goes_to_another_database_is_said(
    database: Database, servers: Callable[[int], Server], caplog: pytest.LogCaptureFixture
) -> None:
    with fresh_database(servers) as other:
        async with listening(database, other.dsn()) as (made, heard):
            await until(lambda: "TENANTRY_LISTEN_URL" in caplog.text)
            assert (made.arriving, heard) == (False, [])


async def test_a_schema_without_the_probe_is_said(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    with database.connect(SUPERUSER) as connection:
        connection.execute("drop function tenantry.probe_endings_v1")
    async with listening(database) as (made, _):
        await until(lambda: "do not arrive (CallRefused)" in caplog.text)
        assert not made.arriving


# --- behind a pooler --------------------------------------------------------------------------------------------------


@pytest.mark.requires("pgbouncer")
async def test_behind_a_pooler_of_transactions_it_knows_that_it_is_deaf(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with bouncing(database) as url:
        async with listening(database, url) as (made, heard):
            await until(lambda: "do not arrive (TimeoutError)" in caplog.text)
            await asyncio.sleep(4)  # further attempts
            notify(database, "user_1")
            await asyncio.sleep(0.5)
            assert (made.arriving, heard) == (False, [])
    assert caplog.text.count("TENANTRY_LISTEN_URL") == 1


@pytest.mark.requires("pgbouncer")
async def test_behind_a_pooler_of_sessions_it_hears(database: Database) -> None:
    with bouncing(database, mode="session") as url:
        async with listening(database, url) as (made, heard):
            await until(lambda: made.arriving)
            notify(database, "user_1")
            await until(lambda: heard[-1] == "user_1")
