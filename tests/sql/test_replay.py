"""Replaying: dead letters become what they would have been, once, whatever order they are tried in; forgotten ones do
no harm when they come again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from databases import SUPERUSER, Database, Server
from sql.clerk_objects import START, Clerk, Json, deleted, event, membership, organization, session, user
from sql.mirror import Mirror
from sql.test_merge import histories

PROPERTY = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


@pytest.fixture(scope="module")
def worlds(server: Server, template: str) -> Iterator[tuple[Mirror, Mirror]]:
    """Two mirrors for a property: one is delivered to, in the other everything fails first."""
    made = [server.create(template), server.create(template)]
    with made[0].connect(SUPERUSER) as one, made[1].connect(SUPERUSER) as other:
        yield Mirror(one), Mirror(other)
    for database in made:
        server.drop(database)


@contextmanager
def broken(mirror: Mirror) -> Iterator[None]:
    """A release that cannot read any event: what comes meanwhile is a dead letter."""
    mirror.run("alter function tenantry.read_event(text, text, jsonb, timestamptz) rename to read_event_well")
    mirror.run(
        "create function tenantry.read_event(type text, kind text, object jsonb, observed_at timestamptz)"
        " returns tenantry.snapshots language plpgsql as $$"
        " begin raise exception using errcode = 'TY010', detail = 'a mistake of this release'; end $$"
    )
    yield
    mirror.run("drop function tenantry.read_event(text, text, jsonb, timestamptz)")
    mirror.run("alter function tenantry.read_event_well(text, text, jsonb, timestamptz) rename to read_event")


def replay(mirror: Mirror, *ids: str, options: str = "{}") -> list[Json]:
    answers: list[Json] = mirror.one("select tenantry.replay_events_v1(%s, %s::jsonb)", list(ids), options)
    return answers


def wait_for_a_waiter(mirror: Mirror) -> None:
    """Until one transaction of this database waits for another's advisory lock; ten seconds at most."""
    waiting = (
        "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        " and database = (select oid from pg_database where datname = current_database())"
    )
    for _ in range(200):
        if mirror.one(waiting):
            return
        time.sleep(0.05)
    raise TimeoutError("nobody waits")


def outcomes(answers: list[Json]) -> list[str]:
    return [answer["outcome"] for answer in answers]


def counts(mirror: Mirror) -> list[tuple[object, ...]]:
    return mirror.rows("select outcome, replays, error_code from tenantry.webhook_events order by message_id")


def test_a_dead_letter_is_applied_after_the_fix_and_only_once(mirror: Mirror) -> None:
    delivery = Mirror.delivery(event("organizationMembership.created", membership()), "msg_1")
    with broken(mirror):
        assert mirror.deliver_all([delivery])[0]["outcome"] == "failed"
        assert replay(mirror, "msg_1")[0]["error"] == "a mistake of this release"
    [answer] = replay(mirror, "msg_1")
    assert (answer["was"], answer["outcome"]) == ("failed", "applied")
    assert [change["kind"] for change in answer["changes"]] == ["tenant.created", "user.created", "member.joined"]
    assert mirror.column("select distinct message_id from tenantry.changes") == ["msg_1"]
    assert mirror.column("select distinct cause from tenantry.changes") == ["webhook"]
    assert counts(mirror) == [("applied", 2, None)]
    kept = mirror.rows("select data is not null, body is null, replayed_at > received_at from tenantry.webhook_events")
    assert kept == [(True, True, True)]

    before = mirror.contents()
    [again] = replay(mirror, "msg_1")
    assert (again["was"], again["outcome"], again["changes"]) == ("applied", "unchanged", [])
    assert mirror.contents() == before
    assert counts(mirror) == [("applied", 3, None)]
    assert mirror.deliver_all([delivery])[0]["outcome"] == "duplicate", "as before"
    assert mirror.deliver_all([delivery | {"body": "{}"}])[0]["outcome"] == "refused", "as before"


def test_a_replay_is_as_old_as_its_first_delivery(mirror: Mirror) -> None:
    told = event("user.updated", user(first_name="Late"))
    del told["timestamp"]
    with broken(mirror):
        mirror.deliver(told, "msg_old", sent_at=START // 1000)
    mirror.deliver(event("user.updated", user(first_name="New"), at=START + 5000))
    replay(mirror, "msg_old")
    assert mirror.one("select first_name from tenantry.users") == "New", "of one version, what was seen later holds"


def test_what_cannot_be_read_stays_a_dead_letter(mirror: Mirror) -> None:
    for number, body in enumerate(["no json", "[1]", '{"type": "user.created", "data": {}}']):
        mirror.deliver(body, f"msg_{number}")
    before = mirror.rows("select message_id, body, error from tenantry.webhook_events order by 1")
    assert outcomes(replay(mirror, "msg_0", "msg_1", "msg_2")) == ["failed"] * 3
    assert mirror.rows("select message_id, body, error from tenantry.webhook_events order by 1") == before
    assert {replays for _, replays, _ in counts(mirror)} == {1}


def test_one_bad_letter_harms_no_neighbour(mirror: Mirror) -> None:
    with broken(mirror):
        mirror.deliver(event("user.created", user("user_1")), "msg_1")
        mirror.deliver(event("user.created", user("user_2")), "msg_3")
    mirror.deliver("no json", "msg_2")
    assert outcomes(replay(mirror, "msg_3", "msg_2", "msg_1", "msg_9", "msg_3")) == [
        "applied",
        "failed",
        "applied",
        "unknown",
    ]


def test_what_nothing_is_kept_of_is_not_replayed(mirror: Mirror) -> None:
    mirror.deliver(event("session.ended", session()), "msg_1")
    mirror.deliver(event("email.created", {"id": "ema_1"}), "msg_2")
    assert outcomes(replay(mirror, "msg_1", "msg_2")) == ["empty", "empty"]
    assert counts(mirror) == [("applied", 0, None), ("ignored", 0, None)]


def test_a_replay_tells_nothing_of_a_person_who_is_gone(mirror: Mirror) -> None:
    with broken(mirror):
        mirror.deliver(event("user.updated", user()), "msg_1")
    mirror.deliver(event("user.deleted", deleted("user", "user_1"), at=START + 9))
    assert outcomes(replay(mirror, "msg_1")) == ["empty"]
    assert mirror.rows("select first_name, ended_at is null from tenantry.users") == [(None, False)]


def test_another_instances_letters_are_not_merged(mirror: Mirror) -> None:
    with broken(mirror):
        mirror.deliver(event("user.created", user()), "msg_1")
    mirror.deliver(event("organization.created", organization()), "msg_2")
    mirror.run("select tenantry.rebind_instance_v1('ins_other')")
    answers = replay(mirror, "msg_1", "msg_2")
    assert [(a["outcome"], a["code"]) for a in answers] == [("refused", "TY018")] * 2
    assert mirror.column("select outcome from tenantry.webhook_events order by message_id") == ["failed", "applied"]
    assert mirror.one("select count(*) from tenantry.users") == 0
    assert mirror.one("select body is not null from tenantry.webhook_events where message_id = 'msg_1'")


def test_a_letter_that_is_being_discarded_is_not_replayed(database: Database, mirror: Mirror) -> None:
    told = event("user.created", user(at=10**30, private_metadata={"plan": "hidden"}))
    mirror.deliver(told, "msg_1")
    with database.connect() as one, database.connect() as other, ThreadPoolExecutor() as pool:
        with one.transaction():
            assert Mirror(one).one("select tenantry.discard_letters_v1('{msg_1}')") == {"discarded": ["msg_1"]}
            replaying = pool.submit(replay, Mirror(other), "msg_1")
            wait_for_a_waiter(mirror)
        assert outcomes(replaying.result(timeout=20)) == ["unknown"]
    assert counts(mirror) == []
    assert mirror.deliver(told, "msg_1")["outcome"] == "failed", "a new delivery, and no conflict with the old"


def test_private_metadata_is_kept_only_where_it_is_asked_for(mirror: Mirror) -> None:
    told = event("user.created", user(private_metadata={"plan": "hidden"}))
    for number, options in enumerate(["{}", '{"keep_private_metadata": true}']):
        with broken(mirror):
            mirror.deliver(told, f"msg_{number}", keep_private_metadata=True)
        replay(mirror, f"msg_{number}", options=options)
    told_now = mirror.column(
        "select data -> 'data' ? 'private_metadata' from tenantry.webhook_events order by message_id"
    )
    assert told_now == [False, True]


@PROPERTY
@given(clerk=histories(), seed=st.integers(0, 2**32), failing=st.sets(st.integers(0, 40)), size=st.integers(1, 5))
def test_replaying_in_any_order_is_as_good_as_delivering(
    worlds: tuple[Mirror, Mirror], clerk: Clerk, seed: int, failing: set[int], size: int
) -> None:
    """Some events fail at first, others land; the failed are replayed in another order, and all of them twice."""
    delivered, replayed = worlds
    for mirror in worlds:
        mirror.run("truncate tenantry.webhook_events, tenantry.changes, tenantry.tenants, tenantry.users cascade")
    letters = [Mirror.delivery(one, f"msg_{number}") for number, one in enumerate(clerk.events)]
    for letter in letters:
        delivered.deliver_all([letter])
    with broken(replayed):
        for number in sorted(failing & set(range(len(letters)))):
            replayed.deliver_all([letters[number]])
    for number in set(range(len(letters))) - failing:
        replayed.deliver_all([letters[number]])
    order = [letter["message_id"] for letter in letters]
    for turn in (seed, seed + 1):
        random.Random(turn).shuffle(order)
        for start in range(0, len(order), size):
            answers = replay(replayed, *order[start : start + size])
            assert not {"failed", "refused", "unknown"} & set(outcomes(answers))
            assert turn == seed or not any(answer["changes"] for answer in answers), "the second time nothing changes"
    assert replayed.state() == delivered.state()
    assert known(replayed) == known(delivered)
    replayed.check_feed()


def grow_old(mirror: Mirror, ages: str = "interval '91 days'") -> None:
    """All deliveries, with a new one of each type: the last of a type is never forgotten."""
    mirror.run(f"update tenantry.webhook_events set received_at = now() - {ages}")
    mirror.run(
        "insert into tenantry.webhook_events (message_id, type, outcome, digest)"
        " select distinct on (type) 'newest_' || type, type, 'applied', ''::bytea from tenantry.webhook_events"
        " where type is not null"
    )


def known(mirror: Mirror) -> list[object]:
    """What the mirror holds, save of users who are deleted: their dead letters were emptied and tell nothing more."""
    gone = set(mirror.column("select id from tenantry.users where deleted_at is not null"))
    return [[row for row in rows if gone.isdisjoint(map(str, row))] for rows in mirror.contents().values()]


def test_a_delivery_that_was_forgotten_and_comes_again_changes_nothing(mirror: Mirror) -> None:
    clerk = Clerk(cascade=True)
    clerk.create_user("user_1")
    clerk.create_user("user_2")
    clerk.create_organization("org_1", "user_1")
    clerk.join("org_1", "user_2")
    clerk.wait(5)
    clerk.change_role("org_1", "user_2", "org:admin")
    clerk.leave("org_1", "user_2")
    clerk.delete_user("user_1")
    letters = [Mirror.delivery(one) for one in clerk.events]
    mirror.deliver_all(letters)
    before, changes = mirror.contents(), mirror.kinds()
    grow_old(mirror)
    assert mirror.one("select tenantry.forget_events_v1(now() - interval '90 days')") == {"forgotten": len(letters)}
    for letter in reversed(letters):
        assert mirror.deliver_all([letter])[0]["outcome"] == "stale"
    assert mirror.contents() == before
    assert mirror.kinds() == changes
    assert mirror.one("select count(*) from tenantry.webhook_events where user_id = 'user_1' and data is not null") == 0


def test_deliveries_are_forgotten_in_batches_the_oldest_first(mirror: Mirror) -> None:
    for number in range(5):
        mirror.deliver(event("email.created", {}), f"msg_{number}")
    mirror.deliver("no json", "msg_dead")
    grow_old(mirror, "interval '100 days' + interval '1 day' * coalesce(substring(message_id from '[0-9]')::int, 0)")
    forget = "select tenantry.forget_events_v1(now() - interval '90 days', %s::jsonb)"
    assert mirror.one(forget, '{"dry_run": true}') == {"forgotten": 5}
    assert mirror.one(forget, '{"limit": 3}') == {"forgotten": 3}
    left = mirror.column("select message_id from tenantry.webhook_events where message_id like 'msg%' order by 1")
    assert left == ["msg_3", "msg_4", "msg_dead"]
    assert [mirror.one(forget, '{"limit": 3}') for _ in range(2)] == [{"forgotten": 2}, {"forgotten": 0}]
    with pytest.raises(Exception, match="cannot read"):
        mirror.one(forget, '{"limit": 0}')


def test_of_many_who_forget_at_once_one_does(database: Database, mirror: Mirror) -> None:
    mirror.deliver(event("email.created", {}))
    grow_old(mirror)
    forget = "select tenantry.forget_events_v1(now() - interval '90 days')"
    with database.connect() as other:
        with mirror.connection.transaction():
            assert mirror.one(forget) == {"forgotten": 1}
            assert Mirror(other).one(forget) == {"forgotten": 0, "busy": True}
        assert Mirror(other).one(forget) == {"forgotten": 0}
