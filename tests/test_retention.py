"""Retention: old deliveries go in the background, in batches; dead letters and the last of each type stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from databases import SUPERUSER, Database, Server
from instance import fresh_database, signer
from signer import ISSUER
from sql.clerk_objects import event, user
from sql.mirror import Mirror
from tenantry.errors import ConfigurationError, InvalidArgument
from tenantry.pool import Pool
from tenantry.retention import forget, keep_retention
from tenantry.settings import Settings
from tenantry.starlette import Tenantry

DAY = 86400
WAIT_SECONDS = 30


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    """With seven deliveries of a hundred days ago, one of them a dead letter, and one of today."""
    with fresh_database(servers) as made, made.connect(SUPERUSER) as superuser:
        mirror = Mirror(superuser)
        mirror.deliver_all([Mirror.delivery(event("email.created", {}), f"msg_{n}") for n in range(6)])
        mirror.deliver("no json", "msg_dead")
        mirror.run("update tenantry.webhook_events set received_at = now() - interval '100 days'")
        mirror.deliver(event("email.created", {}), "msg_new")
        yield made


def left(database: Database) -> list[str]:
    with database.connect() as connection:
        return Mirror(connection).column("select message_id from tenantry.webhook_events order by 1")


async def test_old_deliveries_go_in_batches_and_dead_letters_stay(database: Database) -> None:
    pool = Pool(database.dsn())
    await pool.open()
    try:
        assert await forget(pool.run, 90 * DAY, batch=4) == 6
        assert await forget(pool.run, 90 * DAY, batch=4) == 0
        with pytest.raises(InvalidArgument):
            await forget(pool.run, DAY)
    finally:
        await pool.close()
    assert left(database) == ["msg_dead", "msg_new"]


async def test_the_last_of_each_type_stays_and_tells_how_long_it_has_been_quiet(database: Database) -> None:
    with database.connect(SUPERUSER) as superuser:
        mirror = Mirror(superuser)
        mirror.deliver(event("user.created", user()), "msg_user")
        mirror.run("update tenantry.webhook_events set received_at = received_at - interval '100 days'")
        facts = mirror.one("select tenantry.status_v1()")
        assert mirror.one("select tenantry.forget_events_v1(now() - interval '90 days')")["forgotten"] == 6
        told = mirror.one("select tenantry.status_v1()")
        assert [told[name] for name in ("seen", "heard_at", "silent_since")] == [
            facts[name] for name in ("seen", "heard_at", "silent_since")
        ]
    assert left(database) == ["msg_dead", "msg_new", "msg_user"]


async def test_an_app_that_is_often_redeployed_forgets_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    async def run(call: object) -> str:
        return '{"forgotten": 0}'

    monkeypatch.setattr("tenantry.retention.asyncio.sleep", note)
    with pytest.raises(asyncio.CancelledError):
        await keep_retention(run, 90 * DAY)
    assert 30 <= pauses[0] <= 60
    assert all(1800 <= pause <= 3600 for pause in pauses[1:])


async def test_workers_forget_in_the_background_and_share_the_work(database: Database) -> None:
    pool = Pool(database.dsn())
    await pool.open()
    workers = [asyncio.create_task(keep_retention(pool.run, 90 * DAY, every=0.05, first=0.05)) for _ in range(4)]
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(left(database)) > 2:
                await asyncio.sleep(0.05)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await pool.close()
    assert left(database) == ["msg_dead", "msg_new"]


@pytest.mark.parametrize("retention", ["90d", "forever"])
async def test_an_app_forgets_old_deliveries_unless_it_keeps_all(
    database: Database, monkeypatch: pytest.MonkeyPatch, retention: str
) -> None:
    monkeypatch.setattr("tenantry.starlette.keep_retention", partial(keep_retention, every=0.05, first=0.05))
    given = {"CLERK_JWT_KEY": signer().pem, "CLERK_ISSUER": ISSUER}
    settings = Settings.from_env(given, database_url=database.dsn(), retention=retention)
    async with Tenantry(settings).lifespan(), asyncio.timeout(WAIT_SECONDS):
        if retention == "forever":
            await asyncio.sleep(1)
        while retention != "forever" and len(left(database)) > 2:
            await asyncio.sleep(0.05)
    assert len(left(database)) == (8 if retention == "forever" else 2)


@pytest.mark.parametrize(
    ("text", "days"), [("90d", 90), ("7D", 7), ("forever", 0), ("off", 0), ("0", 0), ("36500d", 36500)]
)
def test_how_long_deliveries_are_kept_is_a_number_of_days(text: str, days: int) -> None:
    assert Settings.from_env({"TENANTRY_RETENTION": text}).retention == days * DAY


def test_deliveries_are_kept_for_ninety_days_unless_said_otherwise() -> None:
    assert Settings.from_env({}).retention == 90 * DAY


@pytest.mark.parametrize("text", ["6d", "36501d", "90", "2h", "-1d", "ever"])
def test_what_is_no_retention_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="TENANTRY_RETENTION"):
        Settings.from_env({"TENANTRY_RETENTION": text})
