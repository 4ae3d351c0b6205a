"""What facts are judged to be, and the route that answers the judgement to whoever monitors the app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from databases import SUPERUSER, Server
from instance import World, fresh_database, gone, joined, serving, settings
from sql.clerk_objects import event
from tenantry.errors import DatabaseUnavailable, SchemaError
from tenantry.fastapi import Tenantry
from tenantry.mirror import Call
from tenantry.silence import Silence
from tenantry.status import Backlog, Check, Facts, Follower, LastRun, Reader, Status, judge, without_facts

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def before(**ago: float) -> datetime:
    return NOW - timedelta(**ago)


WELL = Facts(
    at=NOW,
    schema=4,
    instance_id="ins_2abc",
    heard_at=before(minutes=3),
    silent_since=before(minutes=3),
    changed_in_silence=None,
    alarmed_at=None,
    seen=("user.created",),
    unseen=("user.deleted", "role.deleted"),
    dead_letters=Backlog(0, None),
    dead_by_type={},
    refused=Backlog(0, None),
    ties=0,
    run=LastRun(False, before(hours=2), before(hours=1), False, {"users": {"listed": 1200, "created": 3}}, {}),
    backfilled_at=before(hours=1),
    repaired={},
    unplaced=Backlog(0, None),
    readers=(Reader("greet", "reading", 0, None),),
)


def check(facts: Facts, name: str, **given: Any) -> Check:
    [found] = [one for one in judge(facts, **given).checks if one.name == name]
    return found


def test_all_is_well_while_nothing_is_found() -> None:
    status = judge(WELL, findings=0)
    assert status.level == "ok"
    assert not any(one.next for one in status.checks)
    assert check(WELL, "webhooks").says == "the last one 3 min ago"
    assert check(WELL, "event types").says == "1 of 3 seen; not yet: user.deleted, role.deleted"
    assert check(WELL, "reconcile").says == "1 h ago, 1,200 objects listed, 3 repaired"
    assert check(WELL, "feed").says == "1 consumer, 0 changes to come"


def test_tables_that_follow_are_told_of_where_there_are_some() -> None:
    assert "followers" not in [one.name for one in judge(WELL).checks]
    following = replace(WELL, followers=(Follower("companies", 0), Follower("teams", 0)))
    assert check(following, "followers") == Check("followers", "ok", "2 tables of the app's own, up to date")
    behind = check(replace(WELL, followers=(Follower("companies", 1000),)), "followers")
    assert (behind.level, behind.next) == ("warn", ("tenantry db check", "select tenantry.catch_up_v1();"))
    assert "1,000 or more organizations" in behind.says
    assert "companies" not in behind.says  # it may stand on a public page


def test_the_status_is_its_worst_check() -> None:
    levels = [Check("a", "ok", ""), Check("b", "fail", ""), Check("c", "warn", "")]
    assert Status(NOW, tuple(levels)).level == "fail"
    assert Status(NOW, (levels[0], levels[2])).level == "warn"
    assert Status(NOW, ()).level == "ok"


@pytest.mark.parametrize(
    ("name", "facts", "level", "said"),
    [
        ("webhooks", {"heard_at": None}, "warn", "none has ever arrived"),
        ("webhooks", {"changed_in_silence": before(hours=2)}, "fail", "none for 3 min, though something changed"),
        ("webhooks", {"heard_at": before(days=3)}, "ok", "--ask-clerk"),
        ("event types", {"repaired": {"users": {"ended": 2}}}, "warn", "user.deleted"),
        ("event types", {"repaired": {"users": {"ended": 1}}}, "ok", "1 of 3 seen"),  # an outage
        ("event types", {"repaired": {"users": {"created": 2}}}, "ok", "1 of 3 seen"),
        ("event types", {"unseen": tuple(f"role.{n}" for n in range(24))}, "ok", "role.3 and 20 more"),
        ("dead letters", {"dead_letters": Backlog(10_000, NOW)}, "warn", "10,000 or more"),
        ("refused", {"refused": Backlog(1, NOW)}, "warn", "of another Clerk instance"),
        ("ties", {"ties": 1000}, "warn", "1,000 or more"),
        ("reconcile", {"run": None}, "warn", "no run yet"),
        (
            "feed",
            {"readers": (Reader("a", "parked", 3, NOW), Reader("b", "failing", 1, NOW))},
            "warn",
            "1 parked, 1 fa",
        ),
        ("feed", {"readers": (Reader("a", "reading", 3, before(minutes=4)),)}, "ok", "3 changes to come"),
        ("feed", {"readers": (Reader("a", "reading", 3, before(minutes=6)),)}, "warn", "1 told by nobody"),
        ("feed", {"readers": (), "unplaced": Backlog(9, before(days=1))}, "ok", "nobody is told"),
        ("instance", {"instance_id": None}, "ok", "none yet"),
    ],
)
def test_a_fact_is_judged(name: str, facts: dict[str, Any], level: str, said: str) -> None:
    found = check(replace(WELL, **facts), name)
    assert found.level == level
    assert said in found.says
    assert bool(found.next) == (level != "ok")


@pytest.mark.parametrize(
    ("run", "level", "said"),
    [
        ({"finished_at": None, "under_way": True}, "ok", "under way"),
        ({"finished_at": None}, "warn", "stopped before its end"),
        ({"drift": {"braked": {"users": 12}}}, "warn", "12 users are gone at Clerk"),
        ({"dry": True, "drift": {"differences": 3}}, "warn", "found 3 differences"),
        ({"dry": True}, "ok", "no difference"),
        ({"counts": {"users": {"unconfirmed": 2}}}, "warn", "2 objects in doubt"),
    ],
)
def test_the_last_run_is_judged(run: dict[str, Any], level: str, said: str) -> None:
    assert WELL.run is not None
    found = check(replace(WELL, run=replace(WELL.run, **run)), "reconcile")
    assert (found.level, said in found.says) == (level, True)


def test_runs_that_are_due_are_missed_after_three() -> None:
    assert check(WELL, "reconcile", reconcile_every=1200).level == "ok"
    assert check(WELL, "reconcile", reconcile_every=1199).level == "warn"


@pytest.mark.parametrize(
    ("run", "level"),
    [
        ({}, "warn"),
        ({"counts": {"users": {"listed": 9, "created": 1}}}, "fail"),
        ({"counts": {"users": {"unconfirmed": 1}}}, "fail"),
        ({"dry": True, "drift": {"differences": 1}}, "fail"),
        ({"started_at": before(hours=3)}, "fail"),
        ({"finished_at": None}, "fail"),
    ],
)
def test_a_run_that_finds_the_mirror_right_lowers_the_alarm(run: dict[str, Any], level: str) -> None:
    clean = LastRun(False, before(hours=1), before(minutes=50), False, {"users": {"listed": 9}}, {})
    alarmed = replace(WELL, changed_in_silence=before(hours=3), alarmed_at=before(hours=2), run=replace(clean, **run))
    found = check(alarmed, "webhooks")
    assert found.level == level
    assert ("send an example" in " ".join(found.next)) == (level == "warn")


def test_a_consumers_name_is_quoted_for_the_shell() -> None:
    parked, untold = Reader("a b; rm", "parked", 1, NOW), Reader("c d", "reading", 1, before(days=1))
    said = check(replace(WELL, readers=(parked, untold)), "feed").next
    assert "tenantry changes resume 'a b; rm'" in said
    assert any(step.startswith("tenantry changes remove 'c d' ") for step in said)


def test_what_clerk_answered_counts_more_than_an_older_alarm() -> None:
    alarmed = replace(WELL, changed_in_silence=before(hours=2))
    assert check(alarmed, "webhooks", asked=True).level == "ok"
    silence = Silence(since=before(hours=3), changed_at=before(hours=1))
    assert check(WELL, "webhooks", asked=True, silence=silence).level == "fail"


@given(st.text(), st.text(), st.dictionaries(st.text(), st.integers(1, 10**6)))
def test_a_check_says_no_name_that_came_from_outside(name: str, instance_id: str, types: dict[str, int]) -> None:
    """Consumers, types of events and ids that nobody vouches for."""
    marked = {f"¤{type_}": count for type_, count in types.items()}
    facts = replace(
        WELL,
        instance_id=f"¤{instance_id}",
        readers=(Reader(f"¤{name}", "parked", 1, before(days=1)),),
        dead_letters=Backlog(sum(types.values()), NOW if types else None),
        dead_by_type=marked,
    )
    assert not any("¤" in one.says for one in judge(facts).checks)


def test_an_error_is_told_without_its_detail() -> None:
    status = without_facts(DatabaseUnavailable(detail="connection to db.internal failed"))
    assert [(one.name, one.level) for one in status.checks] == [("database", "fail")]
    assert "internal" not in str(status)
    assert without_facts(SchemaError(hint="Run `tenantry db migrate`.")).checks[0].name == "schema"


# --- the route


@pytest.fixture
async def world(servers: Callable[[int], Server]) -> AsyncIterator[World]:
    def build(world: World) -> None:
        world.app.add_route("/health", world.tenancy.show_health)

    with fresh_database(servers) as database:
        async with serving(database, build) as made:
            yield made


async def health(world: World) -> tuple[int, Any]:
    answer = await world.client.get("/health")
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()


async def test_the_route_answers_200_with_each_check(world: World) -> None:
    await world.deliver(joined())
    status, told = await health(world)
    assert (status, told["status"]) == (200, "warn")  # no run yet
    assert told["checks"]["webhooks"] == {"level": "ok", "says": "the last one 0 s ago"}
    assert all(one.keys() == {"level", "says"} for one in told["checks"].values())


async def test_the_route_answers_503_where_something_has_failed(world: World) -> None:
    await world.deliver(joined())
    world.rows(
        "insert into tenantry.silence (since, asked_at, changed_at, raised_at)"
        " values (tenantry.silent_since(), now(), now(), now()) returning 1"
    )
    status, told = await health(world)
    assert (status, told["status"], told["checks"]["webhooks"]["level"]) == (503, "fail", "fail")


async def test_the_route_names_nobody(world: World) -> None:
    await world.deliver(joined("user_private", "org_private"))
    await world.post(event("user.updated", {"first_name": "Ada"}))  # no id: a dead letter
    await world.deliver(gone("organization", "org_private"))
    world.rows("insert into tenantry.consumers (name, parked_at) values ('tell_acme', now())")
    world.rows("insert into tenantry.reconcile_runs (org_id) values ('org_private')")
    body = json.dumps((await health(world))[1])
    assert "dead letters" in body
    for name in ("private", "Ada", "Acme", "acme", world.database.name, "whsec_", "next"):
        assert name not in body


async def test_a_database_that_does_not_answer_is_503_in_time(world: World) -> None:
    with world.database.connect(SUPERUSER, autocommit=False) as blocking:
        blocking.execute("lock table tenantry.webhook_events in access exclusive mode")
        async with asyncio.timeout(30):
            status, told = await health(world)
    assert status == 503
    assert told["checks"] == {"database": {"level": "fail", "says": "The database did not answer within 2 s."}}
    await asyncio.sleep(1)  # what was read is told for so long
    assert (await health(world))[0] == 200


async def test_an_app_without_its_lifespan_is_503(servers: Callable[[int], Server]) -> None:
    with fresh_database(servers) as database:
        tenancy, app = Tenantry(settings(database)), FastAPI()
        tenancy.install(app, health="/health/tenantry")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as client:
            answer = await client.get("/health/tenantry")
            assert (answer.status_code, answer.json()["status"]) == (503, "fail")
            async with tenancy.lifespan(app):
                assert (await client.get("/health/tenantry")).status_code == 200
                assert (await client.head("/health/tenantry")).status_code == 200
                assert (await client.post("/health/tenantry")).status_code == 405
        assert "/health/tenantry" not in app.openapi()["paths"]


async def test_however_many_ask_the_database_is_asked_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Call] = []
    run = world.tenancy.pool.run

    async def counting(call: Call) -> str:
        asked.append(call)
        return await run(call)

    monkeypatch.setattr(world.tenancy.pool, "run", counting)
    answers = await asyncio.gather(*(health(world) for _ in range(50)))
    assert {status for status, _ in answers} == {200}
    assert [call.function for call in asked] == ["status_v1"]


async def test_who_hangs_up_while_it_is_read_holds_up_nobody(world: World) -> None:
    first = asyncio.create_task(health(world))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(30):
        assert (await health(world))[0] == 200
