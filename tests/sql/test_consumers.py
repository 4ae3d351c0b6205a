"""Consumers of the feed in SQL: positions that move with what was done, once, whoever dies, fails or reads beside."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from databases import APP, OWNER, SUPERUSER, Database, Server
from sql.clerk_objects import INSTANCE, Clerk, deleted, event, membership, organization, user
from sql.mirror import Mirror
from sql.test_merge import ACTS, ORGS, USERS
from tenantry import schema
from tenantry.changes import KINDS, is_of_kinds
from tenantry.dev.binaries import find_binaries

PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def app(database: Database) -> Iterator[Mirror]:
    with database.connect() as connection:
        yield Mirror(connection)


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def write_change(mirror: Mirror, kind: str = "user.created", **values: Any) -> None:
    columns = {"kind": kind, "object_id": "user_1", "cause": "sql"} | values
    names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
    mirror.run(f"insert into tenantry.changes ({names}) values ({places})", *columns.values())


def add(app: Mirror, name: str = "reader", **options: Any) -> Any:
    return app.one("select tenantry.add_consumer_v1(%s, %s)", name, Jsonb({"from": "beginning"} | options))


def read(app: Mirror, name: str = "reader", **options: Any) -> Any:
    return app.one("select tenantry.read_consumer_v1(%s, %s)", name, Jsonb(options))


def enter(app: Mirror, pos: int, after: int, name: str = "reader") -> Any:
    return app.one("select tenantry.enter_change_v1(%s, %s, %s)", name, pos, Jsonb({"after": after}))


def fail(app: Mirror, pos: int, name: str = "reader", **options: Any) -> Any:
    return app.one("select tenantry.fail_consumer_v1(%s, %s, %s)", name, pos, Jsonb({"error": "E"} | options))


def listed(app: Mirror, name: str = "reader") -> Any:
    return {one["name"]: one for one in app.one("select tenantry.list_consumers_v1()")}[name]


def sequence(app: Mirror) -> Any:
    return app.one("select tenantry.sequence_changes_v1()")


# --- once, in order, none left out ------------------------------------------------------------------------------------


@dataclass
class Worker:
    """A process as the database sees it: what it has read, and the transaction it is in."""

    app: Mirror
    after: int = 0
    page: list[Any] = field(default_factory=list)
    telling: int | None = None

    def read(self) -> None:
        if self.telling is None:
            told = read(self.app, kinds=["user.*"], limit=3)
            self.after, self.page = told["pos"], told.get("changes", [])

    def begin(self) -> None:
        if self.telling is None and self.page:
            pos = self.page.pop(0)["pos"]
            self.app.run("begin")
            if enter(self.app, pos, self.after)["taken"]:
                self.app.run("rollback")
            else:
                self.app.run("insert into told values (%s)", pos)
                self.telling = self.after = pos

    def commit(self) -> None:
        if self.telling is not None:
            self.app.run("commit")
            self.telling = None

    def fail(self) -> None:
        if self.telling is not None:
            pos, self.telling, self.page = self.telling, None, []
            self.app.run("rollback")
            fail(self.app, pos, attempts=2, backoff=0)

    def die(self) -> None:
        if self.telling is not None:
            self.app.run("rollback")
        self.telling, self.page = None, []

    def pass_over(self) -> None:
        """What is not of its kinds."""
        if self.telling is None:
            told = read(self.app, kinds=["user.*"], limit=3)
            if told["state"] == "ready" and not told["changes"] and told["reached"] > told["pos"]:
                options = Jsonb({"after": told["pos"]})
                self.app.one("select tenantry.advance_consumer_v1('reader', %s, %s)", told["reached"], options)


MOVES = st.tuples(st.sampled_from(["read", "begin", "commit", "fail", "die", "pass_over"]), st.integers(0, 1))
TELLING = st.integers(0, 1).map(lambda n: [("begin", n), ("commit", n)])  # what it read, however long ago
STEPS = st.one_of(
    MOVES.map(lambda step: [step]),
    TELLING,
    st.sampled_from(["user.created", "user.deleted", "role.created"]).map(lambda kind: [("write", kind)]),
    st.sampled_from(["sequence", "resume", "skip"]).map(lambda step: [(step, None)]),
)
FIRST = [*[("write", "user.created")] * 3, ("write", "role.created"), ("sequence", None), ("read", 0), ("read", 1)]


@PROPERTY
@given(steps=st.lists(STEPS, min_size=4, max_size=40))
def test_however_workers_take_turns_die_and_fail_each_change_has_its_effect_once(
    database: Database, mirror: Mirror, app: Mirror, steps: list[list[tuple[str, Any]]]
) -> None:
    mirror.run("drop table if exists told")
    mirror.run("create table told (pos bigint, n bigint generated always as identity)")
    mirror.run(f"grant insert on told to {APP}")
    mirror.run("delete from tenantry.changes")
    mirror.run("delete from tenantry.consumers")
    add(app)
    skipped: set[int] = set()
    with database.connect() as one, database.connect() as two:
        workers = [Worker(Mirror(one)), Worker(Mirror(two))]

        def decide(skip: bool) -> None:
            if listed(app)["failing"] is not None and all(worker.telling is None for worker in workers):
                told = app.one("select tenantry.resume_consumer_v1('reader', %s)", Jsonb({"skip": skip}))
                skipped.update({told["skipped"]} - {None})

        for step, given_ in chain(FIRST, *steps, [("die", 0), ("die", 1)]):
            if step == "write":
                write_change(mirror, given_)
            elif step == "sequence":
                sequence(app)
            elif step in ("resume", "skip"):
                decide(step == "skip")
            else:
                getattr(workers[given_], step)()
        sequence(app)
        decide(skip=False)
        while listed(app)["behind"] or read(app)["changes"]:
            workers[0].pass_over()
            workers[0].read()
            while workers[0].page:
                workers[0].begin()
                workers[0].commit()
    written = mirror.column("select pos from tenantry.changes where kind like 'user.%%' order by pos")
    assert mirror.column("select pos from told order by n") == [pos for pos in written if pos not in skipped]


def test_without_the_lock_two_workers_would_tell_the_same_change(
    database: Database, mirror: Mirror, app: Mirror
) -> None:
    """The defence removed: a second worker, for whom the row is not locked, begins too."""
    write_change(mirror)
    sequence(app)
    add(app)
    [change] = read(app)["changes"]
    with database.connect() as other:
        app.run("begin")
        assert enter(app, change["pos"], 0)["taken"] is False
        assert read(Mirror(other))["state"] == "busy"
        assert enter(Mirror(other), change["pos"], 0) == {"taken": True}
        app.run("rollback")
        assert read(Mirror(other))["state"] == "ready"
        assert enter(Mirror(other), change["pos"], 0)["taken"] is False


def test_who_read_long_ago_moves_nothing(mirror: Mirror, app: Mirror) -> None:
    for _ in range(3):
        write_change(mirror)
    sequence(app)
    add(app)
    first, second, third = (change["pos"] for change in read(app)["changes"])
    assert enter(app, second, 0)["taken"] is False
    assert enter(app, first, 0) == {"taken": True}
    assert enter(app, third, first) == {"taken": True}
    assert fail(app, second) == {"attempts": 0, "parked": False}
    assert read(app)["pos"] == second


@pytest.mark.parametrize(
    "call",
    [
        "tenantry.add_consumer_v1('')",
        "tenantry.add_consumer_v1(null)",
        "tenantry.add_consumer_v1(E'a\\nb')",
        "tenantry.add_consumer_v1('x', '{\"from\": \"then\"}')",
        "tenantry.read_consumer_v1('x', '{\"limit\": -1}')",
        "tenantry.enter_change_v1('x', 5, '{\"after\": 1}')",
        "tenantry.enter_change_v1('x', 5, '{}')",
        'tenantry.enter_change_v1(\'x\', 5, \'{"after": 1, "timeout": "soon"}\')',
        "tenantry.advance_consumer_v1('x', null, '{\"after\": 0}')",
        "tenantry.fail_consumer_v1('x', 5, '{\"attempts\": 0}')",
        "tenantry.fail_consumer_v1('x', 5, '{\"backoff\": \"long\"}')",
        "tenantry.resume_consumer_v1('nobody')",
    ],
)
def test_what_cannot_be_read_is_refused(app: Mirror, call: str) -> None:
    with pytest.raises(psycopg.Error) as raised:
        app.one(f"select {call}")
    assert raised.value.sqlstate == "TY010"


@given(kind=st.sampled_from(sorted(KINDS)), kinds=st.lists(st.sampled_from([*KINDS, "member.*", "user.*", "*"])))
@PROPERTY
def test_python_and_the_database_agree_on_kinds(mirror: Mirror, kind: str, kinds: list[str]) -> None:
    assert mirror.one("select tenantry.is_of_kinds(%s, %s::text[])", kind, kinds) == is_of_kinds(kind, kinds)


def test_without_a_limit_the_sessions_own_stays(database: Database, mirror: Mirror) -> None:
    write_change(mirror)
    with database.connect(options="-c statement_timeout=4s") as connection:
        app = Mirror(connection)
        add(app)
        sequence(app)
        told = read(app)
        app.run("set statement_timeout = 0")
        app.run("begin")
        assert not enter(app, told["changes"][0]["pos"], told["pos"])["taken"]
        assert app.one("show statement_timeout") == "0"


# --- where a consumer starts, and what it passes over -----------------------------------------------------------------


def test_now_leaves_out_what_was_committed_before_and_nothing_that_was_not(
    database: Database, mirror: Mirror, app: Mirror
) -> None:
    with database.connect(SUPERUSER, autocommit=False) as slow:
        write_change(Mirror(slow), object_id="under way")
        write_change(mirror, object_id="old, without a place yet")
        assert add(app, **{"from": "now"})["created"] is True
        slow.commit()
    write_change(mirror, object_id="new")
    sequence(app)
    assert [change["object_id"] for change in read(app)["changes"]] == ["under way", "new"]
    assert add(app, **{"from": "beginning"})["created"] is False
    assert len(read(app)["changes"]) == 2, "a name that is there stays where it is"


def test_changes_of_a_tenant_that_is_purged_are_passed_over(mirror: Mirror, app: Mirror) -> None:
    write_change(mirror, "member.left", tenant_id="00000000-0000-0000-0000-000000000001")
    write_change(mirror)
    sequence(app)
    add(app)
    told = read(app)
    assert [change["kind"] for change in told["changes"]] == ["user.created"]


def test_an_organization_that_was_deleted_is_entered_and_no_other(mirror: Mirror, app: Mirror) -> None:
    app.deliver(event("organizationMembership.created", membership()))
    app.deliver(event("organization.deleted", deleted("organization", "org_1")))
    sequence(app)
    add(app, kinds=["tenant.deleted"])
    told = read(app, kinds=["tenant.deleted"])
    with app.connection.transaction():
        answer = enter(app, told["changes"][0]["pos"], told["pos"])
        assert answer["context"]["org_id"] == "org_1"
        assert app.one("select tenantry.current_org_id()") == "org_1"
        assert app.one("select current_user") == "tenantry_tenant"
    with app.connection.transaction(force_rollback=True):
        app.one("select tenantry.bypass_tenant_v1('a test')")
        with pytest.raises(psycopg.Error) as raised:
            enter(app, told["changes"][0]["pos"], told["pos"])
        assert raised.value.sqlstate == "TY002"


def test_how_far_behind_a_consumer_is_counts_what_it_is_told(mirror: Mirror, app: Mirror) -> None:
    add(app, kinds=["user.*"])
    assert listed(app)["behind"] == 0
    write_change(mirror)
    write_change(mirror, "role.created")
    assert (listed(app)["behind"], listed(app)["state"]) == (1, "reading")
    sequence(app)
    [change] = read(app, kinds=["user.*"])["changes"]
    assert listed(app)["behind"] == 1
    assert fail(app, change["pos"], backoff=60) == {"attempts": 1, "parked": False}
    assert (listed(app)["state"], listed(app)["failing"]["kind"]) == ("failing", "user.created")
    assert 50 < read(app)["retry_in"] <= 60
    assert fail(app, change["pos"], attempts=2) == {"attempts": 2, "parked": True}
    assert read(app)["state"] == "parked"
    assert enter(app, change["pos"], 0) == {"taken": True}, "until a person decides"


def test_a_removed_consumer_is_absent(app: Mirror) -> None:
    add(app)
    assert app.one("select tenantry.remove_consumer_v1('reader')") == {"removed": True}
    assert app.one("select tenantry.remove_consumer_v1('reader')") == {"removed": False}
    assert read(app)["state"] == "absent"


# --- who is woken -----------------------------------------------------------------------------------------------------


def notices(connection: psycopg.Connection[Any]) -> int:
    return len(list(connection.notifies(timeout=0.3)))


def test_the_transaction_that_writes_changes_notifies_nobody_and_the_one_that_places_them_does(
    database: Database, app: Mirror
) -> None:
    with database.connect() as listener:
        listener.execute("listen tenantry_changes")
        add(app)
        app.deliver(event("organizationMembership.created", membership()))
        assert notices(listener) == 0
        assert app.one("select tenantry.announce_changes_v1()")["sequenced"] == 3
        assert notices(listener) == 1
        assert app.one("select tenantry.announce_changes_v1()")["sequenced"] == 0
        assert notices(listener) == 0


def test_where_nobody_reads_nothing_is_placed(mirror: Mirror, app: Mirror) -> None:
    write_change(mirror)
    assert app.one("select tenantry.announce_changes_v1()") == {"consumers": False}
    assert mirror.column("select pos from tenantry.changes") == [None]


def test_who_finds_the_sequencer_at_work_is_told_to_come_back(database: Database, mirror: Mirror, app: Mirror) -> None:
    add(app)
    with database.connect(autocommit=False) as other:
        other.execute("select tenantry.sequence_changes_v1()")
        write_change(mirror)
        assert app.one("select tenantry.announce_changes_v1()") == {"consumers": True, "sequenced": 0, "busy": True}


# --- the same transitions, whoever tells them -------------------------------------------------------------------------


def transitions(mirror: Mirror) -> dict[Any, list[Any]]:
    """Of each person in each organization, what they became there, in order."""
    told: defaultdict[Any, list[Any]] = defaultdict(list)
    rows = mirror.rows(
        "select t.clerk_org_id, c.user_id, c.kind, c.before ->> 'role', c.after ->> 'role' from tenantry.changes c"
        " join tenantry.tenants t on t.id = c.tenant_id where c.kind like 'member.%%' order by c.seq"
    )
    for org_id, user_id, *change in rows:
        told[org_id, user_id].append(change)
    return told


def list_everything(mirror: Mirror, clerk: Clerk) -> None:
    """As a run does: pages, and what they lack as confirmed absences; children before what they belong to."""
    live = {
        "users": ("users", "id"),
        "organizations": ("tenants", "clerk_org_id"),
        "memberships": ("tenant_memberships", "id"),
    }
    for kind, (table, key) in live.items():
        listing = clerk.listing(kind)
        known = set(mirror.column(f"select {key} from tenantry.{table} where ended_at is null"))
        gone = sorted(known - {shown["id"] for shown in listing})
        mirror.merge_page(kind, listing, clerk.now + 5000, absent=gone)


@PROPERTY
@given(
    acts=st.lists(
        st.tuples(
            st.sampled_from([name for name in ACTS if name != "ban user"]),
            st.sampled_from(ORGS),
            st.sampled_from(USERS),
            st.integers(0, 2),
        ),
        max_size=12,
    ),
    cascade=st.booleans(),
)
def test_pages_tell_the_same_transitions_as_webhooks(
    mirror: Mirror, acts: list[tuple[str, str, str, int]], cascade: bool
) -> None:
    clerk = Clerk(cascade=cascade)
    by_webhook: dict[Any, list[Any]] = {}
    listings = []
    for person in USERS[:2]:
        clerk.create_user(person)
        clerk.create_organization(ORGS[0], person)
    for name, org, person, n in acts:
        clerk.wait(10_000)
        ACTS[name](clerk, org, person, n)
        listings.append(len(clerk.events))
    with mirror.connection.transaction(force_rollback=True):
        for number, told in enumerate(clerk.events):
            mirror.deliver(told, f"msg_{number}")
        by_webhook = transitions(mirror)
    with mirror.connection.transaction(force_rollback=True):
        again = Clerk(cascade=cascade)
        for person in USERS[:2]:
            again.create_user(person)
            again.create_organization(ORGS[0], person)
        list_everything(mirror, again)
        for name, org, person, n in acts:
            again.wait(10_000)
            ACTS[name](again, org, person, n)
            list_everything(mirror, again)
        assert transitions(mirror) == by_webhook


@PROPERTY
@given(st.lists(st.tuples(st.sampled_from(ORGS), st.sampled_from(USERS)), min_size=1, max_size=6))
def test_a_token_causes_tenants_and_users_and_nothing_more(mirror: Mirror, seen: list[tuple[str, str]]) -> None:
    now = mirror.one("select extract(epoch from now())::bigint")
    with mirror.connection.transaction(force_rollback=True):
        for org_id, user_id in seen:
            facts = {"user_id": user_id, "org_id": org_id, "role": "org:admin", "issued_at": now}
            mirror.provision(facts | {"expires_at": now + 60, "instance_id": INSTANCE})
        told = mirror.rows("select kind, object_id, cause from tenantry.changes")
        expected = {("tenant.created", org_id, "token") for org_id, _ in seen}
        expected |= {("user.created", user_id, "token") for _, user_id in seen}
        assert len(told) == len(expected)
        assert set(told) == expected


# --- back-up ----------------------------------------------------------------------------------------------------------


def test_positions_hold_in_another_cluster(database: Database, app: Mirror, lone_server: Server) -> None:
    for n in (1, 2):
        app.deliver(event("user.created", user(f"user_{n}")))
    sequence(app)
    add(app)
    add(app, "parked")
    told = read(app)["changes"]
    assert enter(app, told[0]["pos"], 0)["taken"] is False
    fail(app, told[0]["pos"], "parked", attempts=1)
    app.deliver(event("user.created", user("user_3")))

    first = lone_server.create()
    with first.connect(SUPERUSER) as connection:  # the roles, which no dump holds
        schema.install(connection, app_roles=[APP, OWNER])
    copy = lone_server.create()
    tools = find_binaries(database.server.version).directory
    options = ["--role=tenantry_bypass", "--enable-row-security", "--dbname", database.dsn(APP)]
    dumped = subprocess.run([str(tools / "pg_dump"), *options], capture_output=True, text=True, check=True).stdout
    command = [str(tools / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", copy.dsn(SUPERUSER)]
    dumped = dumped.replace("CREATE SCHEMA public;", "")
    subprocess.run(command, input=dumped, capture_output=True, text=True, check=True)

    with copy.connect() as connection:
        restored = Mirror(connection)
        restored.deliver(event("organization.created", organization()))
        sequence(restored)
        left = read(restored)
        assert left["pos"] == told[0]["pos"]
        assert [change["object_id"] for change in left["changes"]] == ["user_2", "user_3", "org_1"]
        positions = [change["pos"] for change in left["changes"]]
        assert positions == sorted(set(positions))
        assert enter(restored, positions[0], left["pos"])["taken"] is False
        assert listed(restored, "parked")["state"] == "parked"
