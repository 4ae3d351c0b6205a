"""The alarm for webhooks that have stopped: raised by Clerk's own change, once; never by a quiet hour."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from databases import Server
from instance import fresh_database, settings
from reconciling import World, clerk_world
from tenantry import mirror
from tenantry.alarm import Alarm
from tenantry.errors import ConfigurationError, WrongInstance
from tenantry.fastapi import Tenantry
from tenantry.silence import Silence, ask_clerk
from tenantry.starlette import log
from tenantry.status import read_facts

SHORT = 1  # second without a delivery


@pytest.fixture
def world(servers: Callable[[int], Server]) -> Iterator[World]:
    with fresh_database(servers) as database, clerk_world(database) as made:
        made.organization("Acme", made.user("ada"))
        made.deliver_all()
        yield made


def tenancy_of(world: World, **changes: Any) -> Tenantry:
    given = {"secret_key": world.settings.secret_key, "api_url": world.settings.api_url, "silence": SHORT}
    return Tenantry(settings(world.database, **given | changes))


def grow_quiet(world: World) -> None:
    """Clerk's newest change is some minutes old, the last delivery some hours."""
    world.clock.pass_seconds(300)
    world.mirror.run(
        "update tenantry.webhook_events"
        " set received_at = received_at - interval '2 h', occurred_at = occurred_at - interval '2 h'"
    )


async def ask(world: World) -> Silence | None:
    async with world.pool() as pool:
        facts = read_facts(await pool.run(mirror.status()))
        return await ask_clerk(world.settings, pool.run, facts.silent_since, facts.instance_id)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


# --- what is a silence


async def test_nothing_new_at_clerk_is_no_silence(world: World) -> None:
    world.clock.pass_seconds(300)
    assert await ask(world) is None


@pytest.mark.attack(95)
@pytest.mark.parametrize("kind", ["users", "organizations", "memberships"])
async def test_whatever_was_created_and_not_told_is_a_silence(world: World, kind: str) -> None:
    [org] = world.emulator.store.state.organizations
    ben = world.user("ben")
    world.deliver_all()
    world.mirror.run("update tenantry.webhook_events set received_at = now(), occurred_at = now()")
    world.clock.pass_seconds(30)
    at = world.clock()
    if kind == "users":
        world.user("cleo")
    elif kind == "organizations":
        world.organization("Birch")
    else:
        world.join(org, ben)
    world.clock.pass_seconds(300)
    silence = await ask(world)
    assert silence is not None
    assert 0 <= silence.changed_at.timestamp() * 1000 - at < 10_000


@pytest.mark.attack(95)
async def test_a_user_who_changed_and_was_not_told_of_is_a_silence(world: World) -> None:
    [ada] = world.emulator.store.state.users.values()
    grow_quiet(world)
    world.emulator.store.users.update(ada.id, {"first_name": "Augusta"})
    world.mirror.run("update tenantry.webhook_events set received_at = now(), occurred_at = now()")
    assert await ask(world) is None  # not yet: it may be on its way
    grow_quiet(world)
    assert await ask(world) is not None


async def test_a_change_of_nothing_the_mirror_keeps_is_none(world: World) -> None:
    """A new `updated_at` alone: Clerk need not have told of it."""
    [ada] = world.emulator.store.state.users.values()
    world.mirror.run("update tenantry.webhook_events set received_at = now(), occurred_at = now()")
    world.clock.pass_seconds(60)
    world.emulator.store.users.update(ada.id, {"private_metadata": {"seen": True}})
    world.clock.pass_seconds(300)
    assert await ask(world) is None


async def test_a_lost_change_is_found_behind_a_newer_one_that_need_not_be_told(world: World) -> None:
    [ada] = world.emulator.store.state.users.values()
    ben = world.user("ben")
    world.deliver_all()
    world.mirror.run("update tenantry.webhook_events set received_at = now(), occurred_at = now()")
    world.clock.pass_seconds(60)
    world.emulator.store.users.update(ada.id, {"first_name": "Lost"})
    world.clock.pass_seconds(5)
    world.emulator.store.users.update(ben, {"private_metadata": {"seen": True}})
    world.clock.pass_seconds(300)
    asked = len(world.faults.asked)
    assert await ask(world) is not None
    assert len(world.faults.asked) == asked + 4


async def test_deliveries_that_are_forgotten_raise_no_alarm(world: World) -> None:
    world.mirror.run("update tenantry.migrations set applied_at = now() - interval '200 days'")
    world.mirror.run(
        "update tenantry.webhook_events"
        " set received_at = received_at - interval '95 days', occurred_at = occurred_at - interval '95 days'"
    )
    facts = "select tenantry.silent_since()"
    since = world.mirror.one(facts)
    assert world.mirror.one("select tenantry.forget_events_v1(now() - interval '90 days')")["forgotten"] >= 0
    assert world.mirror.one(facts) == since


async def test_asking_changes_nothing(world: World) -> None:
    rows = "select count(*) from tenantry.changes", "select count(*) from tenantry.users"
    before = [world.mirror.one(query) for query in rows]
    world.user("cleo")
    grow_quiet(world)
    assert await ask(world) is not None
    assert [world.mirror.one(query) for query in rows] == before


async def test_another_instances_key_is_refused(world: World) -> None:
    world.mirror.run("update tenantry.clerk_instance set instance_id = 'ins_other'")
    with pytest.raises(WrongInstance):
        await ask(world)


# --- who is told


@pytest.mark.attack(95)
async def test_handlers_are_told_once_by_one_of_many_workers_and_again_after_recovery(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Silence] = []
    async with AsyncExitStack() as stack:
        for _ in range(3):
            tenancy = tenancy_of(world)
            tenancy.on_silence(told.append)
            await stack.enter_async_context(tenancy.lifespan())
        with caplog.at_level(logging.INFO, log.name):
            world.user("cleo")
            late = world.take_events()
            grow_quiet(world)
            await until(lambda: bool(told))
            await asyncio.sleep(2)
            assert len(told) == 1
            assert [record.levelname for record in caplog.records if "no webhook" in record.message] == ["ERROR"]
            world.deliver(*late)  # it is over
            await asyncio.sleep(1)
            world.user("dora")
            grow_quiet(world)
            await until(lambda: len(told) == 2)
    assert told[0].since < told[1].since


@pytest.mark.breach(95)
async def test_who_goes_by_what_arrives_takes_webhooks_that_have_stopped_for_a_quiet_hour(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0

    async def look_nowhere(*_: Any) -> None:
        nonlocal looked
        looked += 1

    monkeypatch.setattr("tenantry.silence._newest_untold", look_nowhere)
    told: list[Silence] = []
    tenancy = tenancy_of(world)
    tenancy.on_silence(told.append)
    async with tenancy.lifespan():
        world.user("cleo")
        grow_quiet(world)
        await until(lambda: looked > 1)
    assert told == []
    assert "no webhook" not in caplog.text


async def test_an_async_handler_is_awaited_and_one_that_fails_harms_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    tenancy = tenancy_of(world)
    told = asyncio.Event()

    @tenancy.on_silence
    def fail(silence: Silence) -> None:
        raise ValueError("no mail server")

    @tenancy.on_silence
    async def tell(silence: Silence) -> None:
        told.set()

    async with tenancy.lifespan():
        world.user("cleo")
        grow_quiet(world)
        async with asyncio.timeout(30):
            await told.wait()
    assert "a handler of silence failed" in caplog.text


class Pager:
    def __init__(self) -> None:
        self.told: list[Silence] = []

    async def __call__(self, silence: Silence) -> None:
        self.told.append(silence)


SILENCE = Silence(since=datetime(2026, 5, 1, tzinfo=UTC), changed_at=datetime(2026, 5, 1, 1, tzinfo=UTC))


async def test_an_object_with_an_async_call_is_awaited() -> None:
    alarm, pager = Alarm(), Pager()
    alarm.add(pager)
    async with asyncio.timeout(10):
        await alarm.tell(SILENCE)
    assert pager.told == [SILENCE]


def test_a_blocking_handler_does_not_hold_up_the_end_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantry.alarm.HANDLER_SECONDS", 0.2)
    alarm, over = Alarm(), threading.Event()
    alarm.add(lambda _: over.wait(60))
    ended = threading.Event()

    def live() -> None:
        asyncio.run(alarm.tell(SILENCE))
        ended.set()

    threading.Thread(target=live, daemon=True).start()
    try:
        assert ended.wait(30)
    finally:
        over.set()


@pytest.mark.parametrize("handler", ["no callable", lambda: None, lambda silence, session: None])
def test_what_cannot_be_called_with_a_silence_is_refused(handler: Any) -> None:
    with pytest.raises(ConfigurationError, match="handler of silence"):
        Alarm().add(handler)


async def test_clerk_is_asked_only_while_no_delivery_comes(world: World) -> None:
    async with tenancy_of(world).lifespan():
        await asyncio.sleep(0.7)
    assert world.faults.asked == []


async def test_a_clerk_that_refuses_is_logged_and_asked_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.faults.answer = lambda path, query, status, body: (401, b'{"errors": [{"code": "clerk_key_invalid"}]}')
    grow_quiet(world)
    async with tenancy_of(world).lifespan():
        await until(lambda: "Check CLERK_SECRET_KEY" in caplog.text)
        asked = len(world.faults.asked)
        await until(lambda: len(world.faults.asked) > asked)
    assert (world.settings.secret_key or "") not in caplog.text


@pytest.mark.parametrize("changes", [{"secret_key": None}, {"silence": 0}])
def test_a_handler_that_could_never_be_told_is_refused(world: World, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="Nobody notices"):
        tenancy_of(world, **changes).on_silence(print)
