"""Reconciling with Clerk: whatever was lost, one run ends in what Clerk has; and no fault ends anybody falsely."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from databases import SUPERUSER, Database, Server
from instance import serving
from reconciling import Query, World, clerk_world, rewritten
from sql.mirror import Mirror
from tenantry import mirror, schema
from tenantry.emulator.store import Event
from tenantry.errors import (
    ClerkRefused,
    ClerkUnavailable,
    ConfigurationError,
    DatabaseUnavailable,
    ReconcileUnderWay,
    WrongInstance,
)
from tenantry.reconcile import Plan, reconcile

MEMBERS = "/organization_memberships"


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with clerk_world(database) as made:
        yield made


def live(world: World, kind: str) -> set[str]:
    return set(world.mirrored()[kind])


async def settle(world: World, members: int = 12) -> tuple[str, list[str]]:
    """An organization with members, mirrored; its events are never delivered."""
    org = world.organization("Acme", world.user("ada"))
    people = world.people(members, org)
    assert (await world.reconcile()).agrees
    world.check()
    world.take_events()
    return org, people


# --- whatever happened ------------------------------------------------------------------------------------------------

PEOPLE, ORGANIZATIONS = 4, 3
ROLES = ("org:admin", "org:member")


class History:
    """A Clerk that lives: each act on one of a few people and organizations, or nothing where it cannot be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.users: dict[int, str] = {}
        self.organizations: dict[int, str] = {}
        self._names = count(1)

    def act(self, name: str, person: int, place: int, number: int) -> None:
        user_id, org_id = self.users.get(person), self.organizations.get(place)
        if name == "create user":
            if user_id is None:
                self.users[person] = self.world.user(f"person{next(self._names)}")
        elif name == "create organization":
            if org_id is None:
                self.organizations[place] = self.world.organization(f"Place {place}", user_id)
        elif name in ("delete user", "change user"):
            if user_id is not None:
                self._change_user(name, person, user_id, number)
        elif name in ("delete organization", "rename organization"):
            if org_id is not None:
                self._change_organization(name, place, org_id, number)
        elif user_id is not None and org_id is not None:
            self._change_membership(name, org_id, user_id, number)

    def _change_user(self, name: str, person: int, user_id: str, number: int) -> None:
        users = self.world.emulator.store.users
        if name == "delete user":
            users.delete(self.users.pop(person))
        elif number == 0:
            users.ban(user_id)
        else:
            users.update(user_id, {"first_name": f"Name {number}"})

    def _change_organization(self, name: str, place: int, org_id: str, number: int) -> None:
        organizations = self.world.emulator.store.organizations
        if name == "delete organization":
            organizations.delete(self.organizations.pop(place))
        else:
            organizations.update(org_id, {"name": f"Name {number}"})

    def _change_membership(self, name: str, org_id: str, user_id: str, number: int) -> None:
        store = self.world.emulator.store
        membership = store.state.membership(org_id, user_id)
        if name == "join" and membership is None:
            self.world.join(org_id, user_id, ROLES[number % 2])
        elif name == "leave" and membership is not None:
            self.world.leave(org_id, user_id)
        elif name == "change role" and membership is not None:
            store.memberships.change_role(membership, store.roles.find(ROLES[number % 2]))
        elif name == "add a domain" and not store.state.domains_of(org_id):
            self.world.domain(org_id, f"{org_id.lower().replace('_', '-')}.test")
        elif name == "drop a domain":
            for domain in store.state.domains_of(org_id):
                store.domains.delete(domain)
        elif name == "invite" and not store.state.invitations_of(org_id):
            self.world.invite(org_id, "guest@example.test")


ACTS = (
    "create user", "create organization", "join", "join", "leave", "change role", "delete user", "change user",
    "delete organization", "rename organization", "add a domain", "drop a domain", "invite",
)  # fmt: skip
ACT = st.tuples(st.sampled_from(ACTS), st.integers(0, PEOPLE - 1), st.integers(0, ORGANIZATIONS - 1), st.integers(0, 3))
STEP = st.one_of(
    ACT,
    ACT,
    ACT,
    st.sampled_from(["deliver in order", "deliver shuffled", "lose", "lose", "run", "quick run"]),
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(STEP, min_size=10, max_size=40), seed=st.integers(0, 1000))
def test_after_any_history_and_any_loss_one_run_ends_in_what_clerk_has(
    server: Server, template: str, steps: list[str | tuple[str, int, int, int]], seed: int
) -> None:
    database = server.create(template)
    with clerk_world(database) as world:
        asyncio.run(_live(world, steps, random.Random(seed)))
    server.drop(database)


async def _live(world: World, steps: list[str | tuple[str, int, int, int]], chance: random.Random) -> None:
    history = History(world)
    for person in range(PEOPLE):
        history.act("create user", person, 0, 0)
    for place in range(ORGANIZATIONS):
        history.act("create organization", place, place, 0)
    late: list[Event] = []
    for step in steps:
        world.clock.pass_seconds(chance.choice([0, 0.001, 1, 60]))
        if isinstance(step, tuple):
            history.act(*step)
        elif step in ("run", "quick run"):
            await world.reconcile(allow_mass_end=True, quick=step == "quick run")
        else:
            events = world.take_events()
            if step != "deliver in order":
                chance.shuffle(events)
            kept = events[len(events) // 2 :] if step == "lose" else events
            late += kept[::3]
            world.deliver(*kept)
    world.deliver(*late[::-1])  # some come again, much later
    assert (await world.reconcile(allow_mass_end=True)).agrees
    world.check()
    world.deliver(*late)
    world.check()


# --- what a run mends -------------------------------------------------------------------------------------------------


async def test_the_first_run_mirrors_everything(world: World) -> None:
    org = world.organization("Acme", world.user("ada"))
    world.people(12, org)
    world.invite(org, "guest@example.test")
    world.domain(org, "acme.test")
    report = await world.reconcile()
    world.check()
    assert report.agrees
    told = {kind: (tally.listed, tally.created) for kind, tally in report.tallies.items()}
    assert told["memberships"] == (13, 13)
    assert told["users"] == (13, 13)
    assert told["organizations"] == (1, 1)


async def test_a_second_run_finds_nothing_to_do_and_writes_nothing(world: World) -> None:
    await settle(world)
    rows = "select xmin::text, ctid::text from tenantry.tenant_memberships order by id"
    before, told = world.mirror.rows(rows), world.mirror.kinds()
    report = await world.reconcile()
    assert {(tally.created, tally.updated, tally.ended) for tally in report.tallies.values()} == {(0, 0, 0)}
    assert world.mirror.rows(rows) == before
    assert world.mirror.kinds() == told


async def test_everything_that_can_be_lost_is_mended(world: World) -> None:
    org, people = await settle(world)
    other = world.organization("Birch", people[0])
    invitation = world.invite(org, "guest@example.test")
    domain = world.domain(org, "acme.test")
    assert (await world.reconcile()).agrees
    world.take_events()
    store = world.emulator.store
    store.organizations.delete(other)
    store.users.delete(people[1])
    store.users.ban(people[2])
    store.users.update(people[3], {"first_name": "Renamed"})
    world.leave(org, people[4])
    store.memberships.change_role(store.memberships.get(org, people[5]), store.roles.find("org:admin"))
    store.invitations.revoke(store.invitations.get(invitation), None)
    store.domains.delete(store.domains.get(org, domain))
    world.leave(org, people[6])
    world.join(org, people[6], "org:admin")
    assert (await world.reconcile()).agrees
    world.check()


async def test_what_went_with_its_organization_is_not_asked_for(world: World) -> None:
    org, _ = await settle(world, members=30)
    world.organization("Birch", world.user("ben"))
    await world.reconcile()
    world.emulator.store.organizations.delete(org)
    world.faults.asked.clear()
    report = await world.reconcile()
    world.check()
    assert report.agrees
    assert f"/organizations/{org}" in world.faults.paths()
    assert f"/organizations/{org}/memberships" not in world.faults.paths()


async def test_a_tie_is_settled_by_a_run(world: World) -> None:
    org, people = await settle(world)
    membership = world.emulator.store.memberships.get(org, people[0])
    world.mirror.run(
        "update tenantry.tenant_memberships set role = 'org:other', content_hash = 1, observed_at = observed_at"
        " where id = %s", membership.id
    )  # fmt: skip
    doubt = "select needs_refetch from tenantry.tenant_memberships where id = %s"
    assert world.mirror.one(doubt, membership.id)
    await world.reconcile(quick=True)
    assert not world.mirror.one(doubt, membership.id)
    world.check()


async def test_an_organization_known_by_its_id_alone_is_asked_for(world: World) -> None:
    _, people = await settle(world)
    other = world.organization("Birch", people[0])
    now = int(time.time())
    identity = {"user_id": people[0], "org_id": other, "issued_at": now, "expires_at": now + 60}
    world.mirror.provision(identity)
    await world.reconcile(quick=True)
    world.check()


async def test_a_quick_run_finds_organizations_with_another_number_of_members(world: World) -> None:
    org, people = await settle(world)
    other = world.organization("Birch", people[0])
    await world.reconcile()
    world.leave(org, people[1])
    world.faults.asked.clear()
    assert (await world.reconcile(quick=True)).agrees
    world.check()
    assert MEMBERS not in world.faults.paths()
    assert f"/organizations/{other}/memberships" not in world.faults.paths()


async def test_one_organization_alone_is_reconciled(world: World) -> None:
    org, people = await settle(world)
    other = world.organization("Birch", people[0])
    await world.reconcile()
    world.leave(org, people[1])
    world.leave(other, people[0])
    guest = world.user("guest")
    world.join(org, guest)
    assert (await world.reconcile(org_id=org)).agrees
    truth, mirrored = world.truth()["memberships"], world.mirrored()["memberships"]
    assert {id for id, row in mirrored.items() if row[0] == org} == {id for id, row in truth.items() if row[0] == org}
    assert any(row[0] == other for row in mirrored.values())
    assert mirrored.keys() - truth.keys()
    world.emulator.store.organizations.delete(other)
    await world.reconcile(org_id=other)
    assert other not in live(world, "organizations")


async def test_an_instance_without_the_wide_lists_is_read_organization_by_organization(world: World) -> None:
    org, people = await settle(world)
    other = world.organization("Birch", people[0])
    world.domain(other, "birch.test")
    world.leave(org, people[1])

    def answer(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
        if path in (MEMBERS, "/organization_invitations", "/organization_domains"):
            return 404, b'{"errors": [{"code": "resource_not_found"}]}'
        return status, body

    world.faults.answer = answer
    assert (await world.reconcile()).agrees
    world.check()


# --- beside live traffic ----------------------------------------------------------------------------------------------


@pytest.mark.attack(92)
async def test_a_page_fetched_before_a_webhook_landed_does_not_undo_it(world: World) -> None:
    org, people = await settle(world)

    def answer(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
        if path == MEMBERS and query["offset"] == ["0"]:  # the page is as it was; the webhook lands before it does
            store = world.emulator.store
            membership = store.state.membership(org, people[0])
            if membership:
                store.memberships.change_role(store.memberships.get(org, people[1]), store.roles.find("org:admin"))
                world.leave(org, people[0])
                world.deliver_all()
        return status, body

    world.faults.answer = answer
    await world.reconcile()
    world.check()


async def test_rows_created_during_a_run_are_not_missing(world: World) -> None:
    org, _ = await settle(world)
    made: list[str] = []

    def answer(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
        if path == MEMBERS and not made:
            made.extend(world.people(3, org))
            world.deliver_all()
        return status, body

    world.faults.answer = answer
    report = await world.reconcile(page_size=100)
    assert report.agrees
    world.check()
    assert "member.left" not in world.mirror.kinds()


@pytest.mark.attack(91)
async def test_rows_that_move_while_they_are_listed_are_neither_lost_nor_ended(world: World) -> None:
    org, people = await settle(world, members=40)
    new = world.people(1, org)
    left: list[str] = []

    def before(path: str, query: Query) -> None:
        if path == MEMBERS and query["offset"] != ["0"] and len(left) < 8:
            left.append(people[len(left)])
            world.leave(org, left[-1])  # everybody behind moves up a place

    world.faults.before = before
    assert (await world.reconcile()).agrees
    assert len(left) == 8
    assert live(world, "memberships") >= world.truth()["memberships"].keys(), "nobody who is there is missing"
    assert new[0] in {row[1] for row in world.mirrored()["memberships"].values()}
    assert (await world.reconcile()).agrees  # some left after a page had shown them
    world.check()


async def test_a_run_and_two_hundred_events_a_second_lose_nothing(world: World) -> None:
    org, people = await settle(world, members=60)
    stop, chance = threading.Event(), random.Random(7)
    told: list[str] = []
    began = time.monotonic()
    spent = 0.0

    def live_on() -> None:
        nonlocal spent
        store = world.emulator.store
        with world.database.connect(SUPERUSER) as connection:
            other = Mirror(connection)
            while not stop.is_set():
                for _ in range(int((time.monotonic() - began) * 200) - len(told) + 1):  # what is due by now
                    person = chance.choice(people)
                    membership = store.state.membership(org, person)
                    if membership is None:
                        world.join(org, person)
                    elif chance.random() < 0.5:
                        world.leave(org, person)
                    else:
                        role = chance.choice(["org:admin", "org:member"])
                        store.memberships.change_role(membership, store.roles.find(role))
                events = world.take_events()
                chance.shuffle(events)
                batch = [Mirror.delivery(world.letter(each), f"msg_{len(told) + n}") for n, each in enumerate(events)]
                answers = other.deliver_all(batch)
                assert {answer["outcome"] for answer in answers} <= {"applied", "stale"}
                told.extend(answer["message_id"] for answer in answers)
                spent = time.monotonic() - began
                stop.wait(0.02)

    worker = threading.Thread(target=live_on)
    worker.start()
    try:
        for _ in range(3):
            await world.reconcile(allow_mass_end=True)
            await asyncio.sleep(0.3)
    finally:
        stop.set()
        await asyncio.to_thread(worker.join, 60)
    assert len(told) >= 200 * spent * 0.9, "or it was no test"
    landed = world.mirror.column("select message_id from tenantry.webhook_events")
    assert set(told) <= set(landed)
    assert len(told) == len(set(told)) > 100
    world.check()


# --- what Clerk may answer --------------------------------------------------------------------------------------------


def whole(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
    return status, body


def breaking_off(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
    return status, body[: len(body) // 2]


def empty(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
    return 200, b'{"data": [], "total_count": 0}' if body[:1] == b"{" else b"[]"


def cut_short(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
    return status, rewritten(
        body, lambda told: told[:1] if isinstance(told, list) else told | {"data": told["data"][:1]}
    )


def one_less(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
    return status, rewritten(
        body, lambda told: told if isinstance(told, list) else told | {"total_count": max(0, told["total_count"] - 7)}
    )


def of_a_proxy(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
    return 404, b"<html>not found</html>"


def something_else(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
    return 200, b'{"hello": "world"}'


def busy(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
    return 429, b"{}"


def broken(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
    return 503, b"upstream"


class Repeating:
    """Answers every other request for a list with the page of before."""

    def __init__(self) -> None:
        self.last = b""

    def __call__(self, path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
        body, self.last = self.last or body, body
        return status, body


Answer = Callable[[str, Query, int, bytes], tuple[int, bytes]]
SOMETIMES: dict[str, Answer] = {
    "pages that break off": breaking_off,
    "empty answers": empty,
    "pages cut short": cut_short,
    "a changing total": one_less,
    "a proxy's 404": of_a_proxy,
    "something else": something_else,
    "429": busy,
    "503": broken,
    "repeated pages": Repeating(),
}


@pytest.mark.attack(93)
@pytest.mark.parametrize("fault", SOMETIMES)
async def test_no_fault_ends_anybody_falsely_or_loses_what_is_new(world: World, fault: str) -> None:
    org, people = await settle(world, members=25)
    world.leave(org, people[0])
    world.people(4, org)
    chance = random.Random(fault)
    spoilt = 0

    def answer(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
        nonlocal spoilt
        if "offset" in query and chance.random() < 0.3:
            spoilt += 1
            return SOMETIMES[fault](path, query, status, body)
        return status, body

    world.faults.answer = answer
    before = world.truth()["memberships"].keys()
    await world.reconcile()
    assert spoilt > 2
    ended = set(world.mirror.column("select id from tenantry.tenant_memberships where ended_at is not null"))
    assert not ended & before, "ended, and Clerk has them"
    world.faults.answer = whole
    assert (await world.reconcile()).agrees
    world.check()


async def test_a_list_that_begins_anew_with_every_page_comes_to_an_end(world: World) -> None:
    await settle(world, members=25)
    before = live(world, "memberships")
    first = b""

    def answer(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
        nonlocal first
        if path == MEMBERS:
            first = first or body
            return status, first
        return status, body

    world.faults.answer = answer
    await world.reconcile()
    assert live(world, "memberships") == before


@pytest.mark.parametrize("fault", [empty, cut_short])
async def test_lists_that_are_always_wrong_end_nobody(world: World, fault: Answer) -> None:
    await settle(world, members=25)
    before = live(world, "memberships")

    def answer(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
        return fault(path, query, status, body) if "offset" in query else (status, body)

    world.faults.answer = answer
    report = await world.reconcile()
    assert not report.agrees or fault is cut_short
    assert live(world, "memberships") == before
    assert not world.mirror.column("select id from tenantry.users where ended_at is not null")


async def test_a_key_of_another_instance_is_refused_before_anything_is_merged(world: World) -> None:
    world.mirror.run("insert into tenantry.clerk_instance (instance_id) values ('ins_other')")
    world.user("ada")
    with pytest.raises(WrongInstance):
        await world.reconcile()
    assert not live(world, "users")


async def test_a_wrong_key_is_said_to_be_one(world: World) -> None:
    object.__setattr__(world.settings, "secret_key", "sk_test_another")
    with pytest.raises(ClerkRefused, match="401") as caught:
        await world.reconcile()
    assert "CLERK_SECRET_KEY" in str(caught.value)
    assert "sk_test_another" not in str(caught.value)


async def test_an_outage_ends_the_run_with_a_sentence_and_ends_nobody(world: World) -> None:
    await settle(world)
    before = world.mirrored()
    world.faults.answer = broken
    with pytest.raises(ClerkUnavailable, match="8 tries"):
        await world.reconcile()
    assert world.mirrored() == before


async def test_an_object_the_database_cannot_take_does_not_hold_up_its_page(world: World) -> None:
    org = world.organization("Acme", world.user("ada"))
    world.people(4, org)

    def answer(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
        if path == "/users":
            return status, rewritten(body, lambda told: [*told[:1], told[1] | {"username": "a\0b"}, *told[2:]])
        return status, body

    world.faults.answer = answer
    report = await world.reconcile(page_size=100)
    assert report.tallies["users"].unreadable >= 1
    assert not report.agrees
    assert len(live(world, "memberships")) == 5


# --- the brake --------------------------------------------------------------------------------------------------------


async def test_the_brake_refuses_to_end_many_and_lets_go_when_told(world: World) -> None:
    org, people = await settle(world, members=40)
    for person in people[:10]:
        world.leave(org, person)
    report = await world.reconcile()
    assert report.tallies["memberships"].braked == 10
    assert not report.agrees
    assert len(live(world, "memberships")) == 41
    assert (await world.reconcile(allow_mass_end=True)).tallies["memberships"].ended == 10
    world.check()


async def test_nine_may_end_whatever_share_they_are(world: World) -> None:
    org, people = await settle(world, members=9)
    for person in people:
        world.leave(org, person)
    assert (await world.reconcile()).agrees
    world.check()


async def test_a_larger_share_is_a_setting(world: World) -> None:
    org, people = await settle(world, members=40)
    for person in people[:12]:
        world.leave(org, person)
    assert (await world.reconcile(brake=0.3)).agrees
    world.check()


# --- stopped, and two at once -----------------------------------------------------------------------------------------


async def test_a_killed_run_goes_on_where_it_was(world: World) -> None:
    org = world.organization("Acme", world.user("ada"))
    world.people(40, org)

    def before(path: str, query: Query) -> None:
        if path == MEMBERS and query["offset"] == ["24"]:
            raise ConnectionResetError

    world.faults.before = before
    with pytest.raises(ClerkUnavailable):
        await world.reconcile()
    world.faults.before = lambda path, query: None
    world.faults.asked.clear()
    report = await world.reconcile()
    assert report.resumed
    assert report.agrees
    world.check()
    assert "/users" not in world.faults.paths()
    offsets = [query["offset"] for path, query in world.faults.asked if path == MEMBERS]
    assert ["0"] not in offsets
    assert ["24"] in offsets
    assert report.tallies["memberships"].created == 41


async def test_a_run_whose_pages_a_crash_emptied_lists_again_and_ends_nobody(world: World) -> None:
    await settle(world, members=40)

    def before(path: str, query: Query) -> None:
        if path == MEMBERS and query["offset"] == ["24"]:
            raise ConnectionResetError

    world.faults.before = before
    with pytest.raises(ClerkUnavailable):
        await world.reconcile()
    world.mirror.run("truncate tenantry.reconcile_pages")  # as PostgreSQL does with what is unlogged
    world.faults.before = lambda path, query: None
    report = await world.reconcile()
    assert report.resumed
    assert report.agrees
    world.check()


async def test_two_runs_at_once_are_one_too_many(world: World) -> None:
    await settle(world)
    async with world.pool() as other, other.hold(mirror.lock_reconcile()) as answer:
        assert json.loads(answer) == {"locked": True}
        with pytest.raises(ReconcileUnderWay):
            await world.reconcile()
    assert (await world.reconcile()).agrees


async def test_a_run_that_another_process_took_over_writes_no_more(world: World) -> None:
    org = world.organization("Acme", world.user("ada"))
    world.people(20, org)

    def before(path: str, query: Query) -> None:
        if path == MEMBERS:  # its lock was lost, and somebody else went on
            world.mirror.run("update tenantry.reconcile_runs set attempt = attempt + 1")
            world.faults.before = lambda path, query: None

    world.faults.before = before
    with pytest.raises(ReconcileUnderWay):
        await world.reconcile()
    assert not live(world, "memberships")


async def test_a_run_that_another_process_took_over_ends_nobody(world: World) -> None:
    _, people = await settle(world)
    gone = people[3]
    world.clock.pass_seconds(60)
    world.emulator.store.users.delete(gone)

    def before(path: str, query: Query) -> None:
        if path == f"/users/{gone}":
            world.mirror.run("update tenantry.reconcile_runs set attempt = attempt + 1")

    world.faults.before = before
    with pytest.raises(ReconcileUnderWay):
        await world.reconcile()
    assert gone in live(world, "users")


async def test_a_database_restarted_in_the_middle_at_most_stops_the_run(
    lone_server: Server,
) -> None:
    lone_server.make_template("tenantry_template", lambda made: None)
    database = lone_server.create()
    with database.connect(SUPERUSER) as connection:
        schema.install(connection, app_roles=[database.app])
    with clerk_world(database) as world:
        org = world.organization("Acme", world.user("ada"))
        world.people(30, org)

        restarted = threading.Event()

        def before(path: str, query: Query) -> None:
            if path == MEMBERS and query["offset"] == ["12"]:
                world.faults.before = lambda path, query: None
                lone_server.postgres.stop()
                lone_server.postgres.start()
                restarted.set()

        world.faults.before = before
        with suppress(DatabaseUnavailable):  # between two statements nobody notices it
            await world.reconcile()
        assert await asyncio.to_thread(restarted.wait, 30)
        with database.connect(SUPERUSER) as connection:
            object.__setattr__(world.mirror, "connection", connection)
            assert (await world.reconcile()).agrees
            world.check()


# --- what differs -----------------------------------------------------------------------------------------------------


async def test_a_dry_run_tells_each_difference_with_its_likely_cause_and_changes_nothing(world: World) -> None:
    org, people = await settle(world)
    store = world.emulator.store
    world.leave(org, people[0])
    store.users.update(people[1], {"first_name": "Renamed"})
    renamed = world.take_events()
    guest = world.user("guest")
    world.deliver(*[event for event in renamed if event.type == "user.created"])
    before, told = world.mirrored(), world.mirror.kinds()
    report = await world.reconcile(dry_run=True)
    assert not report.agrees
    found = {(drift.kind, drift.field, drift.id): drift for drift in report.drift}
    assert len(found) == report.drifted
    assert {*found} == {
        *[("users", field, people[1]) for field in ("first_name", "image_url")],  # the picture shows the initials
        ("users", "exists", guest),
        ("memberships", "exists", next(id for kind, _, id in found if kind == "memberships")),
    }
    name = found["users", "first_name", people[1]]
    assert (name.clerk, name.cause) == ("Renamed", "on its way")
    assert found["users", "exists", guest].clerk is True
    (left,) = (drift for drift in report.drift if drift.kind == "memberships")
    assert (left.field, left.mirror, left.clerk, left.cause) == ("exists", True, False, "never received")
    assert (left.org_id, left.user_id) == (org, people[0])
    assert world.mirrored() == before
    assert world.mirror.kinds() == told


async def test_a_dead_letter_is_named_as_the_cause(world: World) -> None:
    _, people = await settle(world)
    world.emulator.store.users.update(people[0], {"first_name": "Renamed"})
    world.mirror.deliver(f'{{"type": "user.updated", "data": {{"id": "{people[0]}", broken')
    world.emulator.store.users.update(people[1], {"first_name": "Lost"})
    world.clock.pass_seconds(600)
    report = await world.reconcile(dry_run=True)
    causes = {drift.id: drift.cause for drift in report.drift}
    assert causes == {people[0]: "failed", people[1]: "never received"}


async def test_what_may_have_been_forgotten_is_not_said_never_to_have_come(world: World) -> None:
    _, people = await settle(world)
    world.emulator.store.users.update(people[0], {"first_name": "Old"})
    world.clock.pass_seconds(600)
    world.mirror.run("insert into tenantry.retention (before) values (now() + interval '1 hour')")
    report = await world.reconcile(dry_run=True)
    assert {drift.cause for drift in report.drift} == {"forgotten or never received"}


async def test_a_dry_run_does_not_repeat_an_organizations_end_for_its_members(world: World) -> None:
    org, _ = await settle(world)
    world.emulator.store.organizations.delete(org)
    report = await world.reconcile(dry_run=True)
    assert [(drift.kind, drift.field) for drift in report.drift] == [("organizations", "exists")]


async def test_a_dry_run_is_not_gone_on_with(world: World) -> None:
    await settle(world)
    world.user("guest")
    await world.reconcile(dry_run=True)
    assert not (await world.reconcile()).resumed
    world.check()


async def test_a_run_is_kept_with_its_counts(world: World) -> None:
    await settle(world)
    counts, finished, state = world.mirror.rows(
        "select counts, finished_at is not null, state -> 'done' from tenantry.reconcile_runs"
    )[0]
    assert finished
    assert counts["memberships"]["created"] == 13
    assert state[-1] == "domains"
    assert world.mirror.one("select count(*) from tenantry.reconcile_pages") == 0


async def test_a_run_is_due_only_when_none_has_ended_for_a_while(world: World) -> None:
    await settle(world)
    assert (await world.reconcile(unless_within=3600)).run_id is None
    await world.reconcile(org_id=next(iter(live(world, "organizations"))))
    async with world.api() as api, world.pool() as pool:
        assert (await reconcile(api, pool, Plan())).run_id is not None


async def test_progress_is_told_by_kind(world: World) -> None:
    await settle(world)
    heard: list[tuple[str, int, int]] = []
    async with world.api() as api, world.pool() as pool:
        await reconcile(api, pool, Plan(page_size=5), lambda *told: heard.append(told))
    assert ("memberships", 13, 13) in heard
    assert all(done <= total for _, done, total in heard)


# --- in the app -------------------------------------------------------------------------------------------------------


async def test_of_several_workers_one_reconciles_in_the_background(world: World) -> None:
    world.organization("Acme", world.user("ada"))
    runs = "select count(*) from tenantry.reconcile_runs where finished_at is not null"
    clerk: dict[str, Any] = {
        "secret_key": world.settings.secret_key,
        "api_url": world.settings.api_url,
        "reconcile": 20,
    }
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(serving(world.database, **clerk))
        for _ in range(100):
            await asyncio.sleep(0.1)
            if world.mirror.one(runs):
                break
        await asyncio.sleep(2)  # the last of them wakes within a tenth of the interval
    assert world.mirror.one(runs) == 1
    world.check()


async def test_an_outage_of_clerk_does_not_end_the_background_runs(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.user("ada")
    monkeypatch.setattr("tenantry.clerk._PAUSE_SECONDS", 0.001)
    world.faults.answer = broken
    clerk: dict[str, Any] = {"secret_key": world.settings.secret_key, "api_url": world.settings.api_url, "reconcile": 1}
    async with serving(world.database, **clerk):
        for _ in range(300):
            await asyncio.sleep(0.1)
            if world.faults.answer is broken:
                if "did not answer properly" in caplog.text:
                    world.faults.answer = whole
            elif live(world, "users"):
                break
    world.check()


async def test_reconciling_needs_a_key(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="TENANTRY_RECONCILE"):
        async with serving(database, reconcile=900):
            pass
