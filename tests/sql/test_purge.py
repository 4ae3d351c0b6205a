"""Purging a deleted tenant: all its rows go, in whatever order their keys ask for, and no other tenant's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from databases import APP, OWNER, SUPERUSER, Database, Server
from sql.clerk_objects import deleted
from sql.tenants import (
    Connection,
    Tenant,
    World,
    bypassing,
    identity,
    inside,
    isolate,
    make_world,
    membership,
    organization,
    person,
    read,
    record,
    refuse,
    refused,
    rows,
    run,
    undone,
)
from tenantry import mirror, tenants
from tenantry.database import run as call
from tenantry.errors import ConfigurationError, PurgeUnfinished
from tenantry.webhooks import Delivery

PROPERTY = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
WAIT_SECONDS = 60

# What an app may look like: composite keys and plain ones, a tree, a circle, partitions, Clerk's own ids, odd names.
TABLES = """
create table folders (id int, parent int, body text, tenant_id uuid, primary key (tenant_id, id),
  foreign key (tenant_id, parent) references folders on delete restrict);
create table documents (id int, folder int, body text, tenant_id uuid, primary key (tenant_id, id),
  foreign key (tenant_id, folder) references folders);
create table comments (id int primary key, document int, reply_to int references comments, body text, tenant_id uuid,
  foreign key (tenant_id, document) references documents on delete cascade);
create table eggs (id int primary key, hen int, body text, tenant_id uuid);
create table hens (id int primary key, egg int references eggs, body text, tenant_id uuid);
alter table eggs add foreign key (hen) references hens;
create table events (id int, document int, body text, tenant_id uuid, primary key (tenant_id, id),
  foreign key (tenant_id, document) references documents) partition by hash (tenant_id);
create table events_a partition of events for values with (modulus 2, remainder 0);
create table events_b partition of events for values with (modulus 2, remainder 1);
create table "100% old ""notes" (id int primary key, "the org" text, body json);
"""
NAMES = ("folders", "documents", "comments", "eggs", "hens", "events", '"100% old ""notes"')
MIRRORED = ("tenant_memberships", "invitations", "domains")


def make_tables(database: Database) -> None:
    with database.connect(OWNER) as owner:
        run(owner, *TABLES.strip().split(";\n")[:-1], TABLES.strip().split(";\n")[-1])
        for name in NAMES[:-1]:
            isolate(owner, name)
        isolate(owner, NAMES[-1], column="the org")


def fill(connection: Connection, tenant: Tenant, many: int) -> None:
    """As the bypass, so that ids may be chosen: `many` rows a table; trees, chains and circles among them."""
    base = 0 if tenant.sentinel == "alpha" else 1_000_000
    values = {"t": tenant.id, "o": tenant.org_id, "b": base, "n": many, "w": tenant.sentinel}
    whose = "%(w)s, %(t)s"
    for table, row in {
        "folders": f"%(b)s+g, case when g > 1 then %(b)s+g/2 end, {whose}",
        "documents": f"%(b)s+g, %(b)s+1+g%%%(n)s, {whose}",
        "comments": f"%(b)s+g, %(b)s+g, case when g > 1 then %(b)s+g-1 end, {whose}",
        "eggs": f"%(b)s+g, null, {whose}",
        "hens": f"%(b)s+g, %(b)s+g, {whose}",
        "events": f"%(b)s+g, %(b)s+g, {whose}",
        NAMES[-1]: """%(b)s+g, %(o)s, '{"a":\n1}'""",
    }.items():
        name = table.replace("%", "%%")
        connection.execute(f"insert into {name} select {row} from generate_series(1, %(n)s) as g".encode(), values)
    connection.execute("update eggs set hen = id where tenant_id = %(t)s and id %% 3 > 0", values)


@pytest.fixture(scope="module")
def kept_world(server: Server, template: str) -> Iterator[World]:
    database = server.create(template)
    world = make_world(database)
    make_tables(database)
    yield world
    server.drop(database)


@pytest.fixture
def world(kept_world: World) -> Iterator[World]:
    """Two tenants with rows everywhere, the first deleted; made anew for each test, in one database."""
    refill(kept_world, 25)
    yield kept_world
    with kept_world.connect(SUPERUSER) as superuser:
        run(superuser, "drop table if exists invoices, bookmarks, plans")


def refill(world: World, many: int) -> None:
    with world.connect(SUPERUSER) as superuser:
        run(superuser, "truncate tenantry.tenants, tenantry.users, tenantry.webhook_events, tenantry.changes cascade")
        run(superuser, 'truncate folders, documents, comments, eggs, hens, events, "100% old ""notes"')
    made = make_world(world.database)
    object.__setattr__(world, "a", made.a)
    object.__setattr__(world, "b", made.b)
    with world.connect(APP) as app:
        with bypassing(app):
            for tenant in (world.a, world.b):
                fill(app, tenant, many)
        delete(app, world.a)


def delete(app: Connection, tenant: Tenant) -> None:
    record(app, "organization.deleted", deleted("organization", tenant.org_id), time.time() - 60)


def checksums(world: World, tenant: Tenant) -> dict[str, tuple[int, str | None]]:
    """Of every table: how many rows of this tenant, and a digest of them."""
    with world.connect(SUPERUSER) as superuser:
        told = {}
        names = (*NAMES[:-1], *(f"tenantry.{one}" for one in MIRRORED))
        where = dict.fromkeys(names, f"tenant_id = '{tenant.id}'")
        where[NAMES[-1]] = f"\"the org\" = '{tenant.org_id}'"
        where |= {"tenantry.webhook_events": f"org_id = '{tenant.org_id}' and data is not null"}
        where |= {"tenantry.changes": f"tenant_id = '{tenant.id}' and after is not null"}
        for name, condition in where.items():
            query = (
                f"select count(*), md5(string_agg(t::text, '|' order by t::text)) from {name} as t where {condition}"
            )
            told[name] = superuser.execute(query.encode()).fetchone()
        return told  # type: ignore[return-value]


def purge(world: World, login: str = APP, **options: Any) -> dict[str, int]:
    with world.connect(login) as connection:
        tenant = tenants.find_tenant(connection, world.a.org_id)
        return tenants.purge(connection, tenants.plan(connection, tenant), **options)


def plan(world: World, login: str = APP, **options: Any) -> tenants.Plan:
    with world.connect(login) as connection:
        return tenants.plan(connection, tenants.find_tenant(connection, world.a.org_id), **options)


def purge_other(connection: Connection, world: World, **options: Any) -> dict[str, int]:
    found = tenants.plan(connection, tenants.find_tenant(connection, world.b.org_id))
    return tenants.purge(connection, found, **options)


def in_background(work: Callable[[], Any]) -> Callable[[], Any]:
    """Begins it; the answer waits for its end, and raises what it raised."""
    pool = ThreadPoolExecutor(1)
    begun = pool.submit(work)
    pool.shutdown(wait=False)
    return lambda: begun.result(WAIT_SECONDS)


def until(world: World, condition: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    with world.connect(SUPERUSER) as superuser:
        while not read(superuser, condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.02)


@pytest.mark.parametrize("login", [APP, OWNER])
@pytest.mark.parametrize("batch", [7, 1000])
def test_a_purge_deletes_all_rows_of_a_tenant_and_none_of_another(world: World, login: str, batch: int) -> None:
    before = checksums(world, world.b)
    found = plan(world, login)
    assert found.blockers == ()
    assert set(found.rows) == {f"public.{name}" for name in NAMES}
    assert set(found.rows.values()) == {25}
    counts = purge(world, login, batch=batch)
    assert {name: counts[name] for name in found.rows} == found.rows
    assert {count for count, _ in checksums(world, world.a).values()} == {0}
    assert checksums(world, world.b) == before


def test_a_plan_deletes_nothing(world: World) -> None:
    before = checksums(world, world.a)
    plan(world)
    assert checksums(world, world.a) == before


def test_who_refers_goes_before_what_is_referred_to(world: World) -> None:
    steps = plan(world).steps
    place = {name.removeprefix("public."): number for number, step in enumerate(steps) for name in step}
    assert place["comments"] < place["documents"] < place["folders"]
    assert place["events"] < place["documents"]
    assert place["eggs"] == place["hens"], "they refer to each other"


def test_the_tombstone_stays_and_no_late_event_fills_it(world: World) -> None:
    purge(world)
    with world.connect(APP) as app, world.connect(SUPERUSER) as superuser:
        late = organization(world.a.org_id, name="Back again", updated_at=int(time.time() * 1000))
        record(app, "organization.updated", late, time.time())
        record(
            app, "organizationMembership.created", membership("orgmem_late", world.a.org_id, "user_late"), time.time()
        )
        row = "select (ended_at is null, purged_at is null, name is null)::text from tenantry.tenants where id = %s"
        assert read(superuser, row, world.a.id) == "(f,f,t)"
        assert read(superuser, "select count(*) from tenantry.members where tenant_id = %s", world.a.id) == 0
    purge(world)
    assert {count for count, _ in checksums(world, world.a).values()} == {0}


def test_an_organization_that_was_only_not_listed_is_gone_for_good_once_purged(world: World) -> None:
    with world.connect(APP) as app, world.connect(SUPERUSER) as superuser:
        options = {"observed_at": int(time.time() * 1000), "absent": [world.b.org_id]}
        read(app, "select tenantry.merge_page_v1('organizations', '[]', %s::jsonb)", json.dumps(options))
        tenant = tenants.find_tenant(app, world.b.org_id)
        tenants.purge(app, tenants.plan(app, tenant))
        record(app, "organization.updated", organization(world.b.org_id, updated_at=9), time.time() + 9)
        row = "select deleted_at is not null and ended_at is not null from tenantry.tenants where id = %s"
        assert read(superuser, row, world.b.id)


def test_a_live_organization_is_not_purged(world: World) -> None:
    before = checksums(world, world.b)
    with world.connect(APP) as app:
        found = tenants.plan(app, tenants.find_tenant(app, world.b.org_id))
        assert "is not deleted" in found.blockers[0]
        with pytest.raises(ConfigurationError):
            tenants.purge(app, found)
        with refused("TY020"):
            tenants.find_tenant(app, "org_nobody")
    assert checksums(world, world.b) == before


@pytest.mark.parametrize(("mode", "action"), [("none", ""), ("write", "on delete cascade"), (None, "")])
def test_rows_of_no_tenant_that_refer_to_the_tenants_stand_against_it(
    world: World, mode: str | None, action: str
) -> None:
    with world.connect(OWNER) as owner:
        run(owner, f"create table bookmarks (egg int references eggs {action})")
        run(owner, "alter table eggs no force row level security", "insert into bookmarks values (1)")
        run(owner, "alter table eggs force row level security")
        if mode:
            run(owner, f"select tenantry.share_table_v1('bookmarks', '{mode}')")
    [blocker] = plan(world).blockers
    assert "public.bookmarks" in blocker
    assert "(bookmarks_egg_fkey)" in blocker
    with pytest.raises(ConfigurationError):
        purge(world)
    with world.connect(SUPERUSER) as superuser:
        assert read(superuser, "select count(*) from bookmarks") == 1
        run(superuser, "delete from bookmarks", "grant select on bookmarks to tenantry_bypass")
    assert plan(world).blockers == ()


def test_rows_that_refer_to_the_tenant_itself_may_stay_if_that_is_said(world: World) -> None:
    with world.connect(OWNER) as owner:
        run(owner, "create table invoices (id int, tenant uuid references tenantry.tenants)")
        run(
            owner,
            f"insert into invoices values (1, '{world.a.id}')",
            "select tenantry.share_table_v1('invoices', 'none')",
        )
    [blocker] = plan(world).blockers
    assert "invoices_tenant_fkey" in blocker
    assert "--leave invoices" in blocker
    allowed = plan(world, leave=["invoices"])
    assert allowed.blockers == ()
    with world.connect(APP) as app:
        tenants.purge(app, allowed)
    with world.connect(SUPERUSER) as superuser:
        assert read(superuser, "select count(*) from invoices") == 1


def test_another_tenants_rows_that_refer_to_the_tenants_stand_against_it(world: World) -> None:
    with world.connect(SUPERUSER) as superuser:
        run(superuser, "update eggs set hen = 3 where id = 1000001")
    [blocker] = plan(world).blockers
    assert blocker == "1 rows of other tenants in public.eggs refer to rows of this one (eggs_hen_fkey)."
    with world.connect(SUPERUSER) as superuser:
        run(superuser, "update eggs set hen = null where id = 1000001")


@PROPERTY
@given(stops=st.lists(st.integers(1, 12), max_size=4), batch=st.integers(3, 12))
def test_a_purge_that_is_stopped_anywhere_goes_on(kept_world: World, stops: list[int], batch: int) -> None:
    class StoppedError(Exception):
        pass

    refill(kept_world, 12)
    before = checksums(kept_world, kept_world.b)
    for stop in stops:
        left = iter(range(stop))

        def give_up(*_: object, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise StoppedError

        with suppress(StoppedError):
            purge(kept_world, batch=batch, progress=give_up)
        assert checksums(kept_world, kept_world.b) == before
    purge(kept_world, batch=batch)
    assert {count for count, _ in checksums(kept_world, kept_world.a).values()} == {0}
    assert checksums(kept_world, kept_world.b) == before


def test_an_export_has_every_row_of_the_tenant_and_none_of_another(world: World, tmp_path: Path) -> None:
    with world.connect(APP) as app:
        rows = tenants.export(app, tenants.find_tenant(app, world.a.id), tmp_path / "out")
    assert {name: count for name, count in rows.items() if name.startswith("public.")} == {
        f"public.{name}": 25 for name in NAMES
    }
    assert rows["tenantry.users"] == rows["tenantry.tenant_memberships"] == rows["tenantry.tenants"] == 1
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == rows
    files = sorted((tmp_path / "out").glob("*.jsonl"))
    assert len(files) == len(rows)
    for file in files:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert world.b.sentinel not in file.read_text()
        assert len(lines) in (0, 1, 25)
    documents = [json.loads(line) for line in (tmp_path / "out" / "public.documents.jsonl").read_text().splitlines()]
    assert {row["tenant_id"] for row in documents} == {world.a.id}
    assert {row["body"] for row in documents} == {"alpha"}


def test_an_export_overwrites_nothing(world: World, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with world.connect(APP) as app, pytest.raises(ConfigurationError, match="not empty"):
        tenants.export(app, tenants.find_tenant(app, world.a.id), tmp_path)
    (tmp_path / "file").write_text("")
    with world.connect(APP) as app, pytest.raises(ConfigurationError, match="cannot be written"):
        tenants.export(app, tenants.find_tenant(app, world.a.id), tmp_path / "file" / "in")


def test_tenants_are_listed_page_by_page(world: World) -> None:
    with world.connect(APP) as app:
        first = mirror.decode(call(app, mirror.list_tenants({"limit": 1})))
        second = mirror.decode(call(app, mirror.list_tenants({"limit": 1, "after": first[0]["org_id"]})))
        gone = mirror.decode(call(app, mirror.list_tenants({"deleted": True})))
        live = mirror.decode(call(app, mirror.list_tenants({"deleted": False})))
    assert [one["org_id"] for one in first + second] == [world.a.org_id, world.b.org_id]
    assert [one["members"] for one in first + second] == [0, 1]
    assert ([one["org_id"] for one in gone], [one["org_id"] for one in live]) == ([world.a.org_id], [world.b.org_id])


def absent(connection: Connection, kind: str, id_: str, ago: float) -> None:
    """A listing lacked it."""
    options = json.dumps({"observed_at": int((time.time() - ago) * 1000), "absent": [id_]})
    read(connection, "select tenantry.merge_page_v1(%s, '[]', %s::jsonb)", kind, options)


def test_an_organization_that_came_back_since_the_plan_loses_nothing(world: World) -> None:
    before = checksums(world, world.b)
    with world.connect(APP) as app:
        absent(app, "organizations", world.b.org_id, ago=50)
        found = tenants.plan(app, tenants.find_tenant(app, world.b.org_id))
        assert found.blockers == ()
        record(app, "organization.updated", organization(world.b.org_id, updated_at=1), time.time())
        with pytest.raises(ConfigurationError, match="is not deleted"):
            tenants.purge(app, found)
    after = checksums(world, world.b)
    assert {name: after[name] for name in NAMES} == {name: before[name] for name in NAMES}


def test_an_end_is_made_final_after_what_is_being_merged(world: World) -> None:
    with world.connect(APP) as app, world.connect(APP) as merging:
        absent(app, "organizations", world.b.org_id, ago=50)
        with merging.transaction():
            record(merging, "organization.updated", organization(world.b.org_id, updated_at=1), time.time())
            answer = in_background(lambda: mirror.decode(call(app, mirror.end_tenant(world.b.org_id))))
            until(world, "select exists (select from pg_locks where locktype = 'advisory' and not granted)")
        assert answer()["ended"] is False


def test_a_request_that_is_still_in_the_tenant_is_waited_for(world: World) -> None:
    with world.connect(APP) as request, world.connect(APP) as app:
        with inside(request, world.b):
            delete(app, world.b)
            found = tenants.plan(app, tenants.find_tenant(app, world.b.org_id))
            purged = in_background(lambda: tenants.purge(app, found, patience=WAIT_SECONDS))
            until(world, f"select deleted_at is not null from tenantry.tenants where id = '{world.b.id}'")
            time.sleep(0.5)
            request.execute("insert into folders (id, body) values (999, 'late')")
        assert purged()["public.folders"] == 26
    assert {count for count, _ in checksums(world, world.b).values()} == {0}


def test_a_request_that_does_not_end_is_told_and_purged_the_next_time(world: World) -> None:
    with world.connect(APP) as request, world.connect(APP) as app:
        with inside(request, world.b):
            delete(app, world.b)
            with pytest.raises(PurgeUnfinished, match="still open"):
                purge_other(app, world, patience=0)
            request.execute("insert into folders (id, body) values (999, 'late')")
        assert purge_other(app, world)["public.folders"] == 1
    assert {count for count, _ in checksums(world, world.b).values()} == {0}


def test_rows_that_come_during_a_purge_are_told(world: World) -> None:
    def insert(table: str, _: int) -> None:
        if table == "tenantry.webhook_events":
            with world.connect(APP) as job, bypassing(job):
                job.execute("insert into folders (id, body, tenant_id) values (999, 'late', %s)", [world.a.id])

    with pytest.raises(PurgeUnfinished) as told:
        purge(world, progress=insert)
    assert told.value.detail == "What is left: 1 in public.folders."
    assert purge(world) == {"public.folders": 1}


def test_a_row_that_refers_to_one_under_deletion_is_told_with_the_next_step(world: World) -> None:
    with world.connect(APP) as job, world.connect(APP) as app:
        found = tenants.plan(app, tenants.find_tenant(app, world.a.org_id))
        with bypassing(job):
            job.execute("insert into documents values (999, 1, 'late', %s)", [world.a.id])
            purged = in_background(lambda: tenants.purge(app, found, patience=0))
            until(world, "select exists (select from pg_locks where not granted)")
        with pytest.raises(PurgeUnfinished, match=r"came into public\.documents") as told:
            purged()
    assert told.value.hint == "Run it again."
    assert purge(world)["public.documents"] == 1


def test_nobody_enters_a_purged_tenant(world: World) -> None:
    purge(world)
    with world.connect(APP) as app:
        run(app, "select tenantry.sequence_changes_v1()")
        call(app, mirror.add_consumer("late", ["*"], "beginning"))
        told = mirror.decode(call(app, mirror.read_consumer("late", ["tenant.*"], 9)))
        change = next(one for one in told["changes"] if one["tenant_id"] == world.a.id)
        with undone(app):
            entered = mirror.decode(call(app, mirror.enter_change("late", change["pos"], told["pos"], seconds=9)))
            assert entered == {"taken": False, "context": None}
            refuse(app, "TY001", "insert into folders (id) values (1)")
        with refused("TY013"), inside(app, world.a, membership_source="token"):
            pass
        call(app, mirror.remove_consumer("late"))


def test_dead_letters_are_found_and_emptied_by_their_organization(world: World) -> None:
    never = 10**30
    of = organization(world.b.org_id, updated_at=never)
    member = {**membership("orgmem_9", world.b.org_id, "user_9"), "organization": of}
    invited = {"id": "orginv_9", "organization_id": world.b.org_id, "email_address": "zoe@x.test", "updated_at": never}
    hosted = {"id": "orgdmn_9", "organization_id": world.b.org_id, "name": "x.test", "updated_at": never}
    with world.connect(APP) as app, world.connect(SUPERUSER) as superuser:
        for type_, data in {
            "organization.updated": of,
            "organizationMembership.created": member,
            "organizationInvitation.created": invited,
            "organizationDomain.created": hosted,
        }.items():
            assert record(app, type_, data, time.time() - 90) == "failed"
        options = {"org_id": world.b.org_id, "outcomes": ["failed"]}
        assert len(mirror.decode(call(app, mirror.list_events(options)))) == 4
        for message_id, named in {"msg_its": world.b.org_id, "msg_other": "org_other"}.items():
            broken = f'{{"data": {{"id": "{named}"'
            call(app, mirror.record_events([Delivery(message_id, int(time.time()), "", broken, {})]))
        delete(app, world.b)
        purge_other(app, world)
        left = rows(superuser, "select message_id from tenantry.webhook_events where body is not null")
        assert left == ["msg_other"]


def test_nothing_that_comes_late_about_a_purged_tenant_is_kept(world: World) -> None:
    purge(world)
    of = organization(world.a.org_id, name="SENTINEL")
    member = {
        **membership("orgmem_9", world.a.org_id, "user_9"),
        "organization": of,
        "public_metadata": {"a": "SENTINEL"},
    }
    invited = {"id": "orginv_9", "organization_id": world.a.org_id, "email_address": "SENTINEL@x.test", "updated_at": 9}
    hosted = {"id": "orgdmn_9", "organization_id": world.a.org_id, "name": "SENTINEL.test", "updated_at": 9}
    broken = organization(world.a.org_id, name="SENTINEL", updated_at=10**30)
    with world.connect(APP) as app, world.connect(SUPERUSER) as superuser:
        told = {
            "organization.updated": of,
            "organizationMembership.created": member,
            "organizationInvitation.created": invited,
            "organizationDomain.created": hosted,
            "organization.created": broken,
        }
        outcomes = [record(app, type_, data, time.time()) for type_, data in told.items()]
        assert outcomes == ["applied", "stale", "stale", "stale", "ignored"]
        for kind, data in {"invitations": invited, "domains": hosted}.items():
            options = json.dumps({"observed_at": int(time.time() * 1000)})
            page = json.dumps([data])
            read(app, "select tenantry.merge_page_v1(%s, %s::jsonb, %s::jsonb)", kind, page, options)
        for table in rows(superuser, "select tablename::text from pg_tables where schemaname = 'tenantry'"):
            found = f"select count(*) from tenantry.{table} as t where t::text like '%SENTINEL%'"
            assert read(superuser, found) == 0, table
    assert {count for count, _ in checksums(world, world.a).values()} == {0}


def test_a_personal_account_is_purged_once_its_user_cannot_come_back(world: World) -> None:
    with world.connect(APP) as app:
        call(app, mirror.provision(json.dumps(identity(world.b, org_id=None, personal_account=True))))
        absent(app, "users", world.b.user_id, ago=0)
        found = tenants.plan(app, tenants.find_tenant(app, world.b.user_id))
        assert "tenantry users erase" in found.blockers[0]
        call(app, mirror.erase_user(world.b.user_id))
        found = tenants.plan(app, tenants.find_tenant(app, world.b.user_id))
        tenants.purge(app, found)
        assert tenants.find_tenant(app, world.b.user_id).purged_at


def test_a_table_to_be_left_must_refer_to_tenants(world: World) -> None:
    for name in ("nosuchtable", "documents.x"):
        with pytest.raises(ConfigurationError, match=name):
            plan(world, leave=[name])


def test_an_export_shows_members_as_isolation_does(world: World, tmp_path: Path) -> None:
    with world.connect(APP) as app:
        gone = membership("orgmem_former", world.b.org_id, "user_former")
        record(app, "user.created", person("user_former"), time.time() - 90)
        record(app, "organizationMembership.created", gone, time.time() - 90)
        record(app, "organizationMembership.deleted", gone, time.time() - 80)
        tenants.export(app, tenants.find_tenant(app, world.b.org_id), tmp_path / "org")
        call(app, mirror.provision(json.dumps(identity(world.b, org_id=None, personal_account=True))))
        tenants.export(app, tenants.find_tenant(app, world.b.user_id), tmp_path / "own")
    for folder in ("org", "own"):
        told = (tmp_path / folder / "tenantry.users.jsonl").read_text().splitlines()
        assert [json.loads(line)["id"] for line in told] == [world.b.user_id]


def test_a_table_whose_name_is_a_path_is_exported_too(world: World, tmp_path: Path) -> None:
    with world.connect(OWNER) as owner:
        run(owner, 'create table "../a/b" (id int)')
        isolate(owner, '"../a/b"')
    try:
        with world.connect(APP) as app:
            tenants.export(app, tenants.find_tenant(app, world.a.id), tmp_path / "out")
        assert "public.%22..%2Fa%2Fb%22.jsonl" in {file.name for file in (tmp_path / "out").iterdir()}
    finally:
        with world.connect(SUPERUSER) as superuser:
            run(superuser, 'drop table "../a/b"')


@pytest.mark.parametrize("options", [{"deleted": "x"}, {"deleted": 1}, {"limit": "x"}])
def test_tenants_are_not_listed_by_what_cannot_be_read(world: World, options: dict[str, Any]) -> None:
    with world.connect(APP) as app, refused("TY010"):
        call(app, mirror.list_tenants(options))


@pytest.mark.parametrize("options", [{"limit": "x"}, {"limit": 0}, {"limit": 1.5}, {"after": "x"}, {"after": -1}])
def test_a_purge_of_the_mirror_is_refused_what_it_cannot_read(world: World, options: dict[str, Any]) -> None:
    with world.connect(APP) as app, refused("TY010"):
        read(app, "select tenantry.purge_tenant_v1(%s, %s::jsonb)", world.a.id, json.dumps(options))
