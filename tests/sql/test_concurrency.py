"""Many at once: nobody waits for ever, nothing is lost, and the feed tells each transition once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from databases import SUPERUSER, Database
from sql.clerk_objects import INSTANCE, START, Clerk, deleted, event, membership, organization, user
from sql.mirror import Mirror

CONNECTIONS = 16
EVENTS = 10_000
ORGS = ["org_1", "org_2", "org_3"]
USERS = [f"user_{n}" for n in range(40)]


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def busy_clerk(events: int) -> Clerk:
    """Three hot organizations whose people come, go and change roles, an organization and people lost at the end."""
    chance = random.Random(1)
    clerk = Clerk(cascade=True)
    for person in USERS:
        clerk.create_user(person)
    for org in ORGS:
        clerk.create_organization(org, USERS[0])
    acts: list[Callable[[str, str], None]] = [
        lambda org, person: clerk.join(org, person),
        lambda org, person: clerk.leave(org, person),
        lambda org, person: clerk.change_role(org, person, chance.choice(["org:admin", "org:member", "org:editor"])),
        lambda org, _: clerk.update_organization(org, name=f"Name {chance.random()}"),
        lambda _, person: clerk.update_user(person, first_name=f"Name {chance.random()}"),
    ]
    while len(clerk.events) < events - 60:
        clerk.wait(1)
        chance.choice(acts)(chance.choice(ORGS), chance.choice(USERS))
    clerk.wait(1)
    clerk.delete_organization(ORGS[2])
    for person in USERS[:5]:
        clerk.delete_user(person)
    return clerk


def record_at_once(database: Database, clerk: Clerk, connections: int = CONNECTIONS) -> list[Any]:
    """All the events and every tenth twice, in random order and batches of 1 to 8, over many connections."""
    chance = random.Random(2)
    deliveries = [Mirror.delivery(e) for e in clerk.events]
    deliveries += deliveries[::10]
    chance.shuffle(deliveries)
    batches = []
    while deliveries:
        size = chance.randint(1, 8)
        batches.append(deliveries[:size])
        deliveries = deliveries[size:]
    lock = threading.Lock()

    def work(_: int) -> list[Any]:
        answers: list[Any] = []
        with database.connect() as connection:
            app = Mirror(connection)
            while True:
                with lock:
                    if not batches:
                        return answers
                    batch = batches.pop()
                answers += app.deliver_all(batch)

    with ThreadPoolExecutor(connections) as pool:
        return [answer for answers in pool.map(work, range(connections)) for answer in answers]


def test_sixteen_connections_neither_deadlock_nor_lose_an_update(database: Database, mirror: Mirror) -> None:
    clerk = busy_clerk(EVENTS)
    answers = record_at_once(database, clerk)
    assert {answer["outcome"] for answer in answers} <= {"applied", "stale", "duplicate"}
    assert mirror.one("select count(*) from tenantry.webhook_events") == len(clerk.events)
    assert mirror.state() == clerk.truth()
    assert mirror.one("select count(*) from tenantry.tenants where needs_refetch") == 0
    mirror.check_feed()


def test_without_the_locks_of_merging_the_feed_tells_transitions_that_were_none(
    database: Database, mirror: Mirror
) -> None:
    """The advisory locks removed, two merges that cannot see each other both find the member leaving."""
    source = mirror.one("select pg_get_functiondef('tenantry.merge_snapshots'::regproc)")
    start, end = source.index("  perform case when s.alone"), source.index("  ) as locks;") + len("  ) as locks;")
    mirror.run(source[:start] + source[end:])
    assert left_twice(database, mirror) == 2


def left_twice(database: Database, mirror: Mirror) -> int:
    """How often a member leaves when the organization's deletion and an absence are merged at the same time."""
    mirror.deliver(event("organizationMembership.created", membership()))
    with database.connect(autocommit=False) as connection:
        Mirror(connection).deliver(
            event("organization.deleted", deleted("organization", "org_1"), at=START + 50), "msg_end"
        )
        other = threading.Thread(
            target=lambda: in_its_own(
                database, lambda app: app.merge_page("memberships", [], START + 60, absent=["orgmem_1"])
            )
        )
        other.start()
        wait_until(mirror, other)
        connection.commit()
        other.join(30)
    return mirror.kinds().count("member.left")


def end_at_once(database: Database, mirror: Mirror, one: Act, other: Act) -> list[str]:
    """The kinds of changes where a member's organization and the user end in two transactions at the same time."""
    mirror.deliver(event("organizationMembership.created", membership()))
    with database.connect(autocommit=False) as connection:
        one(Mirror(connection))
        beside = threading.Thread(target=lambda: in_its_own(database, other))
        beside.start()
        wait_until(mirror, beside)
        connection.commit()
        beside.join(30)
    mirror.check_feed()
    return mirror.kinds()


Act = Callable[[Mirror], Any]
ORGANIZATION_ENDS: dict[str, Act] = {
    "deleted": lambda app: app.deliver(
        event("organization.deleted", deleted("organization", "org_1"), at=START + 50), "msg_organization"
    ),
    "absent": lambda app: app.merge_page("organizations", [], START + 50, absent=["org_1"]),
}
USER_ENDS: dict[str, Act] = {
    "deleted": lambda app: app.deliver(event("user.deleted", deleted("user", "user_1"), at=START + 50), "msg_user"),
    "absent": lambda app: app.merge_page("users", [], START + 50, absent=["user_1"]),
}


@pytest.mark.parametrize("organization_ends", ORGANIZATION_ENDS)
@pytest.mark.parametrize("user_ends", USER_ENDS)
@pytest.mark.parametrize("user_first", [True, False])
def test_a_member_whose_organization_and_user_end_at_once_leaves_once(
    database: Database, mirror: Mirror, organization_ends: str, user_ends: str, user_first: bool
) -> None:
    acts = [USER_ENDS[user_ends], ORGANIZATION_ENDS[organization_ends]]
    assert end_at_once(database, mirror, *(acts if user_first else acts[::-1])).count("member.left") == 1


def test_a_member_whose_organization_and_user_come_back_at_once_joins_once(database: Database, mirror: Mirror) -> None:
    mirror.deliver(event("organizationMembership.created", membership()))
    for kind, gone in (("users", "user_1"), ("organizations", "org_1")):
        mirror.merge_page(kind, [], START + 50, absent=[gone])
    back: list[Act] = [
        lambda app: app.merge_page("users", [user()], START + 90),
        lambda app: app.merge_page("organizations", [organization()], START + 90),
    ]
    with database.connect(autocommit=False) as connection:
        back[0](Mirror(connection))
        other = threading.Thread(target=lambda: in_its_own(database, back[1]))
        other.start()
        wait_until(mirror, other)
        connection.commit()
        other.join(30)
    assert mirror.kinds().count("member.joined") == 2
    mirror.check_feed()


def test_if_parents_could_end_at_once_their_member_would_leave_twice(database: Database, mirror: Mirror) -> None:
    source = mirror.one("select pg_get_functiondef('tenantry.merge_snapshots'::regproc)")
    assert " union all select 1024 where turns" in source
    mirror.run(source.replace(" union all select 1024 where turns", ""))
    with pytest.raises(AssertionError, match=r"member\.left"):
        end_at_once(database, mirror, ORGANIZATION_ENDS["deleted"], USER_ENDS["deleted"])


@dataclass(frozen=True)
class Race:
    """`known` is committed, and `first` under way when `second` begins, which waits for it. `third` begins when `first`
    is committed and `second` done with its statement, or, where it `waits`, before; both commit at the end.

    `members`: who is one in the end.
    """

    known: Act
    first: Act
    second: Act
    third: Act
    members: Set[tuple[str, str]]
    waits: bool = False


SOMEBODY = event("user.created", user("user_2"))  # the first of all binds the instance
JOINS = event("organizationMembership.created", membership())
AGAIN = event("organizationMembership.created", membership("orgmem_2", created_at=START + 40), at=START + 40)
SEEN = event("user.updated", user(at=START + 90), at=START + 90)
MEMBER = {("org_1", "user_1")}


def tell(told: Any) -> Act:
    return lambda app: app.deliver(told)


def miss_the_membership(app: Mirror) -> None:
    app.merge_page("memberships", [], START + 50, absent=["orgmem_1"])


RACES = {
    "a user comes back whose organization ends": Race(
        tell(JOINS), USER_ENDS["absent"], tell(SEEN), ORGANIZATION_ENDS["deleted"], set()
    ),
    "a user who was never seen comes back and joins": Race(
        tell(SOMEBODY), USER_ENDS["absent"], tell(SEEN), tell(JOINS), MEMBER, waits=True
    ),
    "a membership that was never seen ends with its organization": Race(
        tell(SOMEBODY), tell(JOINS), miss_the_membership, ORGANIZATION_ENDS["deleted"], set()
    ),
    "a membership that was never seen ends and is followed by another": Race(
        tell(SOMEBODY), tell(JOINS), miss_the_membership, tell(AGAIN), MEMBER
    ),
}


class UnderWay:
    """A transaction beside the test's own: what it does, then it waits for `go`, and commits."""

    def __init__(self, database: Database, act: Act, go: threading.Event) -> None:
        self._connection = database.connect(autocommit=False)
        self._act, self._go = act, go
        self._done = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._work = self._pool.submit(self._run)

    def _run(self) -> None:
        with self._connection as connection:
            self._act(Mirror(connection))
            self._done.set()
            assert self._go.wait(30)

    def settle(self, mirror: Mirror) -> None:
        """Until it is done with its statement, or waits for a lock."""
        deadline = time.monotonic() + 30
        waiting = "select exists (select from pg_locks where pid = %s and not granted)"
        while not (self._done.is_set() or self._work.done() or mirror.one(waiting, self._connection.info.backend_pid)):
            assert time.monotonic() < deadline

    def finish(self) -> None:
        self._work.result(30)
        self._pool.shutdown()


def run_race(database: Database, mirror: Mirror, race: Race) -> None:
    race.known(mirror)
    go = threading.Event()
    with database.connect(autocommit=False) as first:
        race.first(Mirror(first))
        beside = [UnderWay(database, race.second, go)]
        beside[0].settle(mirror)
        if not race.waits:
            first.commit()
            beside[0].settle(mirror)
        beside.append(UnderWay(database, race.third, go))
        beside[1].settle(mirror)
    for one in beside:
        one.settle(mirror)
    go.set()
    for one in beside:
        one.finish()


@pytest.mark.parametrize("name", RACES)
def test_an_absence_that_commits_while_others_merge_is_told_as_it_was(
    database: Database, mirror: Mirror, name: str
) -> None:
    run_race(database, mirror, RACES[name])
    assert mirror.state().members.keys() == RACES[name].members
    mirror.check_feed()


def test_if_an_absence_did_not_merge_alone_who_comes_back_would_be_told_of_falsely(
    database: Database, mirror: Mirror
) -> None:
    source = mirror.one("select pg_get_functiondef('tenantry.merge_snapshots'::regproc)")
    assert "case when s.alone" in source
    mirror.run(source.replace("case when s.alone", "case when false"))
    run_race(database, mirror, RACES["a user comes back whose organization ends"])
    with pytest.raises(AssertionError):
        mirror.check_feed()


def in_its_own(database: Database, act: Callable[[Mirror], Any]) -> None:
    with database.connect() as connection:
        act(Mirror(connection))


def wait_until(mirror: Mirror, thread: threading.Thread) -> None:
    """Until the thread is through, or waits for a lock."""
    deadline = time.monotonic() + 30
    while thread.is_alive() and time.monotonic() < deadline:
        if mirror.one("select exists (select from pg_locks where not granted)"):
            return


def test_a_member_whose_organization_ends_at_the_same_time_leaves_once(database: Database, mirror: Mirror) -> None:
    assert left_twice(database, mirror) == 1


def test_a_member_joining_while_the_organization_comes_back_is_told_once(database: Database, mirror: Mirror) -> None:
    mirror.deliver(event("organization.created", organization()))
    mirror.merge_page("organizations", [], START + 100, absent=["org_1"])
    with database.connect(autocommit=False) as connection:
        joins = event("organizationMembership.created", membership(), at=START + 200)
        Mirror(connection).deliver(joins, "msg_a")
        second = membership("orgmem_2", user_id="user_2")
        late = event("organizationMembership.created", second, at=START)  # tells nothing new of the organization
        other = threading.Thread(target=lambda: in_its_own(database, lambda app: app.deliver(late, "msg_b")))
        other.start()
        wait_until(mirror, other)
        connection.commit()
        other.join(30)
    assert mirror.state().members.keys() == {("org_1", "user_1"), ("org_1", "user_2")}
    mirror.check_feed()


def test_an_app_that_holds_its_tenants_row_by_a_foreign_key_does_not_block_webhooks(
    database: Database, mirror: Mirror
) -> None:
    mirror.deliver(event("organizationMembership.created", membership()))
    mirror.run("create table public.notes (tenant_id uuid not null references tenantry.tenants (id))")
    with database.connect(SUPERUSER, autocommit=False) as holder, database.connect() as connection:
        holder.execute("insert into public.notes select id from tenantry.tenants")
        connection.execute("set lock_timeout = '5s'")
        app = Mirror(connection)
        assert (
            app.deliver(event("organization.updated", organization(at=START + 5, name="Birch"), at=START + 5))[
                "outcome"
            ]
            == "applied"
        )
        assert (
            app.deliver(event("organizationMembership.updated", membership(at=START + 6), at=START + 6))["outcome"]
            == "applied"
        )
        assert (
            app.deliver(event("organization.deleted", deleted("organization", "org_1"), at=START + 9))["outcome"]
            == "applied"
        )
        mirror.run("set lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            mirror.run("select from tenantry.tenants for update")


def test_the_same_message_at_once_is_recorded_once(database: Database, mirror: Mirror) -> None:
    delivery = mirror.delivery(event("user.created", user()), "msg_same")

    def work(_: int) -> str:
        with database.connect() as connection:
            return str(Mirror(connection).deliver_all([delivery])[0]["outcome"])

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(work, range(8)))
    assert outcomes == ["applied"] + ["duplicate"] * 7


def test_first_sights_of_an_instance_at_once_bind_it_once(database: Database, mirror: Mirror) -> None:
    def work(number: int) -> str:
        with database.connect() as connection:
            told = event("user.created", user(f"user_{number}"), instance_id=f"ins_{number % 2}")
            return str(Mirror(connection).deliver(told, f"msg_{number}")["outcome"])

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(work, range(8)))
    bound = mirror.one("select instance_id from tenantry.clerk_instance")
    assert outcomes == ["applied" if bound == f"ins_{number % 2}" else "refused" for number in range(8)]


def provision(app: Mirror, instance_id: str | None = None) -> None:
    now = app.one("select extract(epoch from now())::bigint")
    times = {"issued_at": now, "expires_at": now + 60}
    app.provision({"user_id": "user_2", "org_id": "org_1", "instance_id": instance_id} | times)


def tell_of_no_instance(app: Mirror) -> None:
    told = event("organizationMembership.created", membership())
    app.deliver({name: value for name, value in told.items() if name != "instance_id"})


FIRST_SIGHTS: dict[str, tuple[Act, Act]] = {
    "a token without an instance, a webhook": (provision, tell(JOINS)),
    "a token without an instance, a page": (
        provision,
        lambda app: app.merge_page("memberships", [membership()], START),
    ),
    "a token, a webhook without an instance": (lambda app: provision(app, INSTANCE), tell_of_no_instance),
}


def see_at_once(database: Database, mirror: Mirror, first: Act, second: Act) -> None:
    """In a database bound to no instance yet, `second` begins while `first` is under way."""
    go = threading.Event()
    go.set()
    with database.connect(autocommit=False) as connection:
        first(Mirror(connection))
        beside = UnderWay(database, second, go)
        beside.settle(mirror)
        connection.commit()
        beside.finish()


@pytest.mark.parametrize("name", FIRST_SIGHTS)
def test_who_names_no_instance_at_its_first_sight_agrees_with_who_does_on_the_tenants_id(
    database: Database, mirror: Mirror, name: str
) -> None:
    see_at_once(database, mirror, *FIRST_SIGHTS[name])
    assert mirror.state().members.keys() == {("org_1", "user_1")}


def test_if_first_sights_did_not_wait_for_each_other_one_would_refer_to_no_tenant(
    database: Database, mirror: Mirror
) -> None:
    source = mirror.one("select pg_get_functiondef('tenantry.bind_instance'::regproc)")
    waiting = "perform pg_advisory_xact_lock(hashtext('tenantry.instance'), 0);"
    assert waiting in source
    mirror.run(source.replace(waiting, ""))
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        see_at_once(database, mirror, *FIRST_SIGHTS["a token without an instance, a webhook"])


def test_provisioning_does_not_wait_for_a_webhook_of_the_known_organization(database: Database, mirror: Mirror) -> None:
    mirror.deliver(event("organizationMembership.created", membership()))
    now = mirror.one("select extract(epoch from now())::bigint")
    with database.connect(autocommit=False) as holder, database.connect() as connection:
        Mirror(holder).deliver(
            event("organization.updated", organization(at=START + 5, name="Birch"), at=START + 5), "msg_a"
        )
        connection.execute("set lock_timeout = '5s'")
        identity = {"user_id": "user_1", "org_id": "org_1", "issued_at": now, "expires_at": now + 60}
        assert Mirror(connection).provision(identity)["created"] == []
