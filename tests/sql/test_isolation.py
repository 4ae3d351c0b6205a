"""Tables put behind isolation, shared, or taken out again: what it takes, refuses, and leaves alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from databases import APP, OWNER, SUPERUSER, Database, Server
from sql.tenants import (
    Connection,
    World,
    become,
    findings,
    identity,
    isolate,
    open_world,
    organization,
    read,
    record,
    refuse,
    refused,
    rows,
    run,
    set_tenant,
    undone,
    visiting,
)

LOGINS = [APP, OWNER, SUPERUSER]


@pytest.fixture(scope="module")
def world(server: Server, template: str) -> Iterator[World]:
    with open_world(server, template) as made:
        yield made


@pytest.fixture
def owner(world: World) -> Iterator[Connection]:
    """A session of the app's owner, in a transaction that leaves nothing behind."""
    with world.connect(SUPERUSER) as connection, undone(connection):
        become(connection, OWNER)
        yield connection


def fill(owner: Connection, world: World, table: str, column: str = "title") -> None:
    """A row a tenant, written by the app inside it."""
    for tenant in (world.a, world.b):
        write(owner, tenant.id, f"insert into {table} ({column}) values ('{tenant.sentinel}')")


def write(owner: Connection, tenant_id: str, statement: str) -> None:
    """A statement inside a tenant whose effect stays for the test's transaction."""
    become(owner, APP)
    owner.execute("select tenantry.set_tenant_by_id_v1(%s, 'a test')", [tenant_id])
    run(owner, statement)
    become(owner, SUPERUSER)
    run(owner, "select set_config('tenantry.tenant_id', '', true)")
    become(owner, OWNER)


def seen(owner: Connection, world: World, query: str, login: str = APP) -> tuple[list[Any], list[Any]]:
    """What A and B get for a query."""
    with visiting(owner, login, world.a):
        a = rows(owner, query)
    with visiting(owner, login, world.b):
        b = rows(owner, query)
    return a, b


ALONE = (["alpha"], ["bravo"])


# A table of the app


def test_an_isolated_table_has_a_tenant_in_every_row_and_an_index_for_it(owner: Connection) -> None:
    run(owner, "create table documents (id uuid primary key default gen_random_uuid(), title text)")
    answer = isolate(owner, "documents")
    assert answer == {"table": "documents", "column": "tenant_id", "key": "id", "partitions": [], "findings": []}
    column = "select attnotnull from pg_attribute where attrelid = 'documents'::regclass and attname = 'tenant_id'"
    assert read(owner, column)
    assert read(owner, "select count(*) from pg_index where indrelid = 'documents'::regclass and indkey[0] = 3") == 1
    reference = (
        "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'documents'::regclass and contype = 'f'"
    )
    assert read(owner, reference) == "FOREIGN KEY (tenant_id) REFERENCES tenantry.tenants(id)"
    assert read(owner, "select relrowsecurity and relforcerowsecurity from pg_class where oid = 'documents'::regclass")


@pytest.mark.parametrize("login", LOGINS)
def test_each_tenant_sees_its_own_rows_whoever_logs_in(world: World, owner: Connection, login: str) -> None:
    run(owner, "create table documents (title text)")
    isolate(owner, "documents")
    fill(owner, world, "documents")
    assert seen(owner, world, "select title from documents", login) == ALONE


@pytest.mark.parametrize("login", [APP, OWNER])
@pytest.mark.parametrize(
    "statement",
    [
        "select * from documents",
        "select count(*) from documents",
        "insert into documents (title) values ('x')",
        "update documents set title = 'x'",
        "delete from documents",
        "copy documents to stdout",
    ],
)
def test_without_a_tenant_a_query_fails_and_does_not_answer_nothing(
    world: World, owner: Connection, login: str, statement: str
) -> None:
    run(owner, "create table documents (title text)")
    isolate(owner, "documents")
    fill(owner, world, "documents")
    become(owner, login)
    with refused("TY001"), owner.transaction():
        if statement.startswith("copy"):
            with owner.cursor().copy(statement) as copy:
                list(copy)
        else:
            run(owner, statement)


def test_isolating_again_changes_nothing(world: World, owner: Connection) -> None:
    run(owner, "create table documents (title text)")
    isolate(owner, "documents", permissions={"delete": "org:documents:delete"})
    fill(owner, world, "documents")
    catalog = """
      select array(select (polname, polcmd, polroles, pg_get_expr(polqual, polrelid))::text
                   from pg_policy where polrelid = c.oid order by 1)
          || array(select pg_get_constraintdef(oid) from pg_constraint where conrelid = c.oid order by 1)
          || array(select indexrelid::text from pg_index where indrelid = c.oid order by 1)
          || c.relacl::text || c.relforcerowsecurity::text
      from pg_class as c where oid = 'documents'::regclass"""
    before = read(owner, catalog)
    isolate(owner, "documents", permissions={"delete": "org:documents:delete"})
    assert read(owner, catalog) == before
    assert seen(owner, world, "select title from documents") == ALONE


def test_options_left_out_at_the_second_time_are_gone(world: World, owner: Connection) -> None:
    run(owner, "create table documents (title text)")
    isolate(owner, "documents", permissions={"select": "org:documents:read"})
    fill(owner, world, "documents")
    assert seen(owner, world, "select title from documents") == ([], [])
    isolate(owner, "documents")
    assert seen(owner, world, "select title from documents") == ALONE


@pytest.mark.parametrize(
    ("schema", "table", "column"),
    [
        ("public", '"Weird Table"', "org Id"),
        ("public", '"select"', "user"),
        ("public", '"it\'s (a) %s"', "a+b$ (c)"),
        ("app", "documents", "tenant_id"),
        ('"My App"', '"Weird.Table"', "tenant_id"),
    ],
)
def test_names_may_be_anything_and_stand_in_any_schema(
    world: World, owner: Connection, schema: str, table: str, column: str
) -> None:
    if schema != "public":
        run(owner, f"create schema {schema}")
    name = f"{schema}.{table}"
    run(owner, f"create table {name} (id bigserial primary key, title text)")
    answer = isolate(owner, name, column=column, key="id", permissions={"insert": "a's:b"})
    assert answer["findings"] == []
    isolate(owner, name, column=column, key="id")
    fill(owner, world, name)
    assert seen(owner, world, f"select title from {name}") == ALONE
    assert findings(owner) == []


def test_a_schema_that_tenants_may_not_use_is_refused_with_the_grant_it_takes(world: World, owner: Connection) -> None:
    become(owner, SUPERUSER)
    run(owner, "create schema closed", f"grant usage, create on schema closed to {OWNER}")
    become(owner, OWNER)
    run(owner, "create table closed.documents (title text)")
    refuse(owner, "TY030", "select tenantry.isolate_table_v1('closed.documents')", "grant usage on schema closed to")
    become(owner, SUPERUSER)
    run(owner, "grant usage on schema closed to tenantry_tenant, tenantry_bypass")
    become(owner, OWNER)
    isolate(owner, "closed.documents")
    fill(owner, world, "closed.documents")
    assert seen(owner, world, "select title from closed.documents") == ALONE


def test_a_superusers_table_is_isolated_like_any_other(world: World, owner: Connection) -> None:
    become(owner, SUPERUSER)
    run(owner, "create table documents (title text)")
    isolate(owner, "documents")
    fill(owner, world, "documents")
    for login in LOGINS:
        assert seen(owner, world, "select title from documents", login) == ALONE


# What it refuses


def test_only_the_owner_may_isolate_share_or_drop(owner: Connection) -> None:
    run(owner, "create table documents (title text)", "create table plans (name text)")
    isolate(owner, "documents")
    become(owner, APP)
    for call in ("isolate_table_v1('plans')", "share_table_v1('plans', 'read')", "drop_isolation_v1('documents')"):
        refuse(owner, "TY030", f"select tenantry.{call}", OWNER)


@pytest.mark.parametrize(
    ("made", "name"),
    [
        ("create view v as select 1", "v"),
        ("create sequence s", "s"),
        ("create materialized view m as select 1", "m"),
        (None, None),
    ],
)
@pytest.mark.parametrize("call", ["isolate_table_v1(%s)", "share_table_v1(%s, 'read')"])
def test_what_is_no_table_is_refused(owner: Connection, made: str | None, name: str | None, call: str) -> None:
    if made:
        run(owner, made)
    with refused("TY030", "no table"), owner.transaction():
        owner.execute("select tenantry." + call, [name])


def test_a_table_that_does_not_exist_is_refused(owner: Connection) -> None:
    refuse(owner, "42P01", "select tenantry.isolate_table_v1('nowhere')", "nowhere")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "objects"),
        ("text", "objects"),
        ({"colum": "x"}, "colum"),
        ({"column": ""}, "column"),
        ({"column": 7}, "column"),
        ({"key": "name"}, "key"),
        ({"backfill": {}}, "backfill"),
        ({"permissions": []}, "objects"),
        ({"permissions": {"truncate": "org:a:b"}}, "truncate"),
        ({"permissions": {"delete": ["org:a:b"]}}, "delete"),
        ({"permissions": {"delete": None}}, "delete"),
    ],
)
def test_options_that_cannot_be_read_are_named(owner: Connection, options: object, named: str) -> None:
    run(owner, "create table documents (title text)")
    with refused("TY010", named), owner.transaction():
        owner.execute("select tenantry.isolate_table_v1('documents', %s::jsonb)", [json.dumps(options)])


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("tenant_id text", "id"),
        ("tenant_id integer", "id"),
        ("org_id uuid", "clerk_org_id"),
        ("org_id char(40)", "clerk_org_id"),
    ],
)
def test_a_tenant_column_of_another_type_is_refused(owner: Connection, column: str, key: str) -> None:
    run(owner, f"create table documents ({column})")
    with refused("TY030", column.split()[0]), owner.transaction():
        isolate(owner, "documents", column=column.split()[0], key=key)


@pytest.mark.parametrize("mode", ["'all'", "null", "''"])
def test_an_unknown_way_to_share_is_refused(owner: Connection, mode: str) -> None:
    run(owner, "create table plans (name text)")
    refuse(owner, "TY010", f"select tenantry.share_table_v1('plans', {mode})")


# Rows that are there already


@pytest.mark.parametrize("column", ["", ", tenant_id uuid"])
def test_a_filled_table_is_refused_with_the_two_ways_on_and_left_as_it_was(owner: Connection, column: str) -> None:
    run(owner, f"create table documents (title text{column})", "insert into documents (title) values ('old')")
    with refused("TY030", "backfill") as _, owner.transaction():
        isolate(owner, "documents")
    refuse(owner, "TY030", "select tenantry.isolate_table_v1('documents')", "tenantry adopt")
    assert rows(owner, "select title from documents") == ["old"]
    assert not read(owner, "select relrowsecurity from pg_class where oid = 'documents'::regclass")


def test_a_column_index_and_key_that_are_there_are_used_and_the_table_is_not_read(
    world: World, owner: Connection
) -> None:
    run(
        owner,
        "create table documents (title text, tenant_id uuid not null references tenantry.tenants (id))",
        "create index on documents (tenant_id, title)",
    )
    owner.execute("insert into documents values ('old', %s)", [world.a.id])
    scans = "select seq_scan from pg_stat_xact_user_tables where relid = 'documents'::regclass"
    before, indexes = read(owner, scans), "select count(*) from pg_index where indrelid = 'documents'::regclass"
    isolate(owner, "documents")
    assert read(owner, scans) == before
    assert read(owner, indexes) == 1
    assert (
        read(owner, "select count(*) from pg_constraint where conrelid = 'documents'::regclass and contype = 'f'") == 1
    )
    assert seen(owner, world, "select title from documents") == (["old"], [])


def test_the_check_may_be_left_for_later(owner: Connection) -> None:
    run(owner, "create table documents (title text unique)")
    assert [found["code"] for found in isolate(owner, "documents")["findings"]] == ["TC10"]
    assert isolate(owner, "documents", check="later")["findings"] is None
    refuse(owner, "TY010", """select tenantry.isolate_table_v1('documents', '{"check": "never"}')""", "later")


@pytest.mark.parametrize("whose", ["id", "org_id"])
def test_backfill_gives_the_rows_of_nobody_to_one_tenant(world: World, owner: Connection, whose: str) -> None:
    run(owner, "create table documents (title text)", "insert into documents values ('old')")
    isolate(owner, "documents", backfill=getattr(world.a, whose))
    assert seen(owner, world, "select title from documents") == (["old"], [])


def test_backfill_touches_no_row_that_has_a_tenant(world: World, owner: Connection) -> None:
    run(owner, "create table documents (title text, tenant_id uuid)", "insert into documents values ('old', null)")
    owner.execute("insert into documents values ('bravo', %s)", [world.b.id])
    isolate(owner, "documents", backfill=world.a.id)
    assert seen(owner, world, "select title from documents") == (["old"], ["bravo"])


def test_backfill_to_nobody_we_know_is_refused(owner: Connection) -> None:
    run(owner, "create table documents (title text)", "insert into documents values ('old')")
    with refused("TY020", "org_unknown"), owner.transaction():
        isolate(owner, "documents", backfill="org_unknown")


def test_backfill_to_a_personal_account_needs_the_key_id(world: World, owner: Connection) -> None:
    facts = identity(world.a, org_id=None, personal_account=True)
    owner.execute("select tenantry.provision_v1(%s::jsonb)", [json.dumps(facts)])
    run(owner, "create table documents (title text)", "insert into documents values ('old')")
    with refused("TY030", "personal account"), owner.transaction():
        isolate(owner, "documents", column="org_id", backfill="user_alpha")
    isolate(owner, "documents", backfill="user_alpha")
    with owner.transaction():
        set_tenant(owner, facts)
        assert rows(owner, "select title from documents") == ["old"]


@pytest.mark.parametrize("type_", ["text", "varchar", "varchar(64)"])
def test_an_org_id_column_is_isolated_as_it_is(world: World, owner: Connection, type_: str) -> None:
    run(owner, f"create table documents (title text, org_id {type_})")
    run(
        owner, "insert into documents values ('alpha', 'org_alpha'), ('bravo', 'org_bravo'), ('stranger', 'org_unseen')"
    )
    before = rows(owner, "select (ctid, xmin, d)::text from documents as d")
    answer = isolate(owner, "documents", column="org_id")
    assert (answer["key"], answer["findings"]) == ("clerk_org_id", [])
    assert seen(owner, world, "select title from documents") == ALONE
    write(owner, world.a.id, "insert into documents (title) values ('new')")
    assert seen(owner, world, "select title from documents where org_id = 'org_alpha'") == (["alpha", "new"], [])
    become(owner, SUPERUSER)
    assert set(before) < set(rows(owner, "select (ctid, xmin, d)::text from documents as d"))
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "insert into documents (title, org_id) values ('x', 'org_bravo')")


# Permissions


@pytest.mark.parametrize(
    ("permission", "holder"), [("org:documents:write", "org:documents:write"), ("documents:write", None)]
)
def test_a_member_without_the_permission_writes_nothing(
    world: World, owner: Connection, permission: str, holder: str | None
) -> None:
    run(owner, "create table documents (title text)")
    isolate(owner, "documents", permissions={"insert": permission, "update": permission, "delete": permission})
    fill(owner, world, "documents")  # by the app itself, which holds every permission
    with owner.transaction(force_rollback=True):
        become(owner, APP)
        set_tenant(owner, identity(world.a))
        assert owner.execute("delete from documents").rowcount == 0
        assert owner.execute("update documents set title = 'x'").rowcount == 0
        refuse(owner, "42501", "insert into documents (title) values ('x')")
        assert rows(owner, "select title from documents") == ["alpha"]
    with owner.transaction(force_rollback=True):
        become(owner, APP)
        set_tenant(owner, identity(world.a, permissions=[holder]) if holder else identity(world.a, role="admin"))
        run(owner, "insert into documents (title) values ('x')")
        assert owner.execute("update documents set title = 'y'").rowcount == 2
        assert owner.execute("delete from documents").rowcount == 2


def test_a_member_without_the_permission_reads_nothing(world: World, owner: Connection) -> None:
    run(owner, "create table salaries (title text)")
    isolate(owner, "salaries", permissions={"select": "org:salaries:read"})
    fill(owner, world, "salaries")
    assert seen(owner, world, "select title from salaries") == ([], [])
    with owner.transaction(force_rollback=True):
        become(owner, APP)
        set_tenant(owner, identity(world.a, permissions=["org:salaries:read"]))
        assert rows(owner, "select title from salaries") == ["alpha"]


# Partitions and children

PARTITIONED = [
    "create table events (id bigserial, title text, at date default '2026-05-05') partition by range (at)",
    """create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01')
       partition by range (at)""",
    "create table events_2026_1 partition of events_2026 for values from ('2026-01-01') to ('2026-07-01')",
    "create table events_rest partition of events default",
]


def test_a_partitioned_table_is_isolated_to_its_last_partition(world: World, owner: Connection) -> None:
    run(owner, *PARTITIONED)
    answer = isolate(owner, "events")
    assert answer["partitions"] == ["events_2026", "events_2026_1", "events_rest"]
    assert answer["findings"] == []
    fill(owner, world, "events")
    assert seen(owner, world, "select title from events") == ALONE
    with visiting(owner, APP, world.a):
        for part in ("events_2026", "events_2026_1", "events_rest"):
            refuse(owner, "42501", f"select title from {part}")
            refuse(owner, "42501", f"insert into {part} (title) values ('x')")
    refuse(owner, "TY001", "select title from events_2026_1")


@pytest.mark.attack(20)
def test_a_partition_added_later_is_covered_through_its_parent_and_reported(world: World, owner: Connection) -> None:
    run(owner, *PARTITIONED)
    isolate(owner, "events")
    run(owner, "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01')")
    assert [(code, name) for code, name, _ in findings(owner)] == [("TC05", "events_2027")]
    for tenant in (world.a, world.b):
        write(owner, tenant.id, f"insert into events (title, at) values ('{tenant.sentinel}', '2027-02-02')")
    assert seen(owner, world, "select title from events") == ALONE
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "select title from events_2027")
    isolate(owner, "events_2027")
    assert findings(owner) == []
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "select title from events_2027")
    assert seen(owner, world, "select title from events") == ALONE


def test_a_partition_attached_with_grants_of_its_own_is_closed_by_isolating_again(
    world: World, owner: Connection
) -> None:
    run(owner, *PARTITIONED)
    isolate(owner, "events")
    run(
        owner,
        "create table events_2028 (like events including defaults)",
        "alter table events_2028 alter tenant_id set not null",
    )
    run(owner, "grant select, truncate on events_2028 to public")
    run(owner, "alter table events attach partition events_2028 for values from ('2028-01-01') to ('2029-01-01')")
    isolate(owner, "events")
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "select title from events_2028")
        refuse(owner, "42501", "truncate events_2028")
    assert findings(owner) == []


def test_a_partition_detached_stays_isolated(world: World, owner: Connection) -> None:
    run(owner, *PARTITIONED)
    isolate(owner, "events")
    fill(owner, world, "events")
    run(owner, "alter table events detach partition events_2026")
    refuse(owner, "TY001", "select title from events_2026")


def test_a_partition_is_not_isolated_by_itself(owner: Connection) -> None:
    run(owner, *PARTITIONED)
    refuse(owner, "TY030", "select tenantry.isolate_table_v1('events_rest')", "isolate its parent")


@pytest.mark.attack(21)
def test_a_child_that_inherits_is_isolated_with_its_parent(world: World, owner: Connection) -> None:
    run(owner, "create table letters (title text)", "create table faxes (number text) inherits (letters)")
    assert isolate(owner, "letters")["findings"] == []
    become(owner, SUPERUSER)
    for tenant in (world.a, world.b):
        owner.execute("insert into faxes (title, tenant_id) values (%s, %s)", [tenant.sentinel, tenant.id])
    become(owner, OWNER)
    assert seen(owner, world, "select title from letters") == ALONE
    refuse(owner, "TY001", "select title from faxes")
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "select title from faxes")
    assert findings(owner) == []
    isolate(owner, "letters")


# Sequences


@pytest.mark.parametrize(
    "id_",
    [
        "bigserial",
        "bigint generated always as identity",
        "bigint generated by default as identity",
        "bigint default nextval('numbers')",
    ],
)
def test_rows_are_numbered_inside_a_tenant_and_the_counter_stays_unread(
    world: World, owner: Connection, id_: str
) -> None:
    run(owner, "create sequence numbers", f"create table documents (id {id_}, title text)")
    isolate(owner, "documents")
    fill(owner, world, "documents")
    assert seen(owner, world, "select title from documents where id > 0") == ALONE
    sequence = read(owner, "select tenantry.sequences_of('documents')::text[]")[0]
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", f"select last_value from {sequence}")
        refuse(owner, "42501", f"select setval('{sequence}', 1)")


def test_a_counter_of_two_tables_stays_usable_while_one_of_them_needs_it(world: World, owner: Connection) -> None:
    run(
        owner,
        "create sequence numbers",
        "create table documents (id bigint default nextval('numbers'), title text)",
        "create table notes (id bigint default nextval('numbers'), title text)",
    )
    isolate(owner, "documents")
    isolate(owner, "notes")
    run(owner, "select tenantry.drop_isolation_v1('notes')", "select tenantry.share_table_v1('notes', 'read')")
    fill(owner, world, "documents")
    run(owner, "select tenantry.drop_isolation_v1('documents')", "select tenantry.share_table_v1('documents', 'none')")
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "select nextval('numbers')")


# Shared tables


def make_countries(owner: Connection, mode: str) -> None:
    run(
        owner,
        "create table countries (id serial primary key, name text)",
        "insert into countries (name) values ('Peru')",
    )
    assert read(owner, "select tenantry.share_table_v1('countries', %s)", mode) == {"table": "countries", "mode": mode}


def test_countries_keep_working_for_everybody(world: World, owner: Connection) -> None:
    make_countries(owner, "read")
    assert seen(owner, world, "select name from countries") == (["Peru"], ["Peru"])
    with visiting(owner, APP, None):
        assert rows(owner, "select name from countries") == ["Peru"]
    with visiting(owner, OWNER, None):
        run(owner, "insert into countries (name) values ('Chile')")
    assert findings(owner) == []


@pytest.mark.parametrize("login", LOGINS)
def test_a_table_shared_to_read_is_not_written_by_tenants(world: World, owner: Connection, login: str) -> None:
    make_countries(owner, "read")
    with visiting(owner, login, world.a):
        for statement in (
            "insert into countries (name) values ('x')",
            "update countries set name = 'x'",
            "delete from countries",
            "truncate countries",
        ):
            refuse(owner, "42501", statement)
    with visiting(owner, APP, None):
        run(owner, "select tenantry.bypass_tenant_v1('a new country')", "insert into countries (name) values ('Chile')")


def test_a_table_shared_to_write_is_written_by_tenants_and_not_truncated(world: World, owner: Connection) -> None:
    make_countries(owner, "write")
    write(owner, world.a.id, "insert into countries (name) values ('Chile')")
    assert seen(owner, world, "select name from countries")[1] == ["Chile", "Peru"]
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "truncate countries")


@pytest.mark.parametrize("login", LOGINS)
def test_a_table_shared_with_none_is_seen_by_no_tenant(world: World, owner: Connection, login: str) -> None:
    make_countries(owner, "none")
    with visiting(owner, login, world.a):
        refuse(owner, "42501", "select name from countries")
        refuse(owner, "42501", "insert into countries (name) values ('x')")


def test_sharing_again_otherwise_takes_back_what_was_given(world: World, owner: Connection) -> None:
    make_countries(owner, "write")
    run(owner, "select tenantry.share_table_v1('countries', 'read')")
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "insert into countries (name) values ('x')")
        refuse(owner, "42501", "select nextval('countries_id_seq')")


def test_partitions_of_a_shared_table_are_reached_through_it_alone(world: World, owner: Connection) -> None:
    run(
        owner,
        "create table rates (name text) partition by list (name)",
        "create table rates_all partition of rates default",
    )
    run(owner, "grant all on rates_all to public", "select tenantry.share_table_v1('rates', 'read')")
    with visiting(owner, APP, world.a):
        assert rows(owner, "select name from rates") == []
        refuse(owner, "42501", "select name from rates_all")
    assert findings(owner) == []


def test_an_isolated_table_is_not_shared_by_a_slip(owner: Connection) -> None:
    run(owner, "create table documents (title text)")
    isolate(owner, "documents")
    refuse(owner, "TY030", "select tenantry.share_table_v1('documents', 'read')", "drop_isolation_v1")


# Views


def test_views_show_a_tenant_its_own_rows(world: World, owner: Connection) -> None:
    run(owner, "create table documents (title text)")
    run(
        owner,
        "create view titles as select title from documents",
        "create view shouted as select upper(title) as title from titles",
    )
    isolate(owner, "documents")
    fill(owner, world, "documents")
    assert seen(owner, world, "select title from titles") == ALONE
    assert seen(owner, world, "select title from shouted") == (["ALPHA"], ["BRAVO"])
    assert findings(owner) == []


def test_a_view_over_more_than_its_reader_may_see_stays_closed(world: World, owner: Connection) -> None:
    run(owner, "create table documents (title text)", "create table secrets (word text)")
    run(owner, "create view both_of_them as select title, word from documents, secrets")
    run(owner, "select tenantry.share_table_v1('secrets', 'none')")
    isolate(owner, "documents")
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "select * from both_of_them")


def test_a_view_of_another_owner_is_reported_and_not_touched(world: World, owner: Connection) -> None:
    run(owner, "create table documents (title text)")
    become(owner, SUPERUSER)
    run(owner, "create view titles as select title from documents")
    become(owner, OWNER)
    assert [f["code"] for f in isolate(owner, "documents")["findings"]] == []
    assert [(code, name) for code, name, _ in findings(owner)] == [("TC20", "titles")]


def test_a_materialized_view_is_not_read_by_tenants(world: World, owner: Connection) -> None:
    run(owner, "create table documents (title text)", "create materialized view digest as select title from documents")
    isolate(owner, "documents")
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "select * from digest")
    assert findings(owner) == []


# Keys


@pytest.mark.attack(27)
def test_a_composite_key_closes_references_between_tenants(world: World, owner: Connection) -> None:
    run(
        owner,
        "create table folders (id bigint generated by default as identity primary key, title text)",
        "create table documents (title text, folder_id bigint)",
    )
    isolate(owner, "folders")
    isolate(owner, "documents")
    run(
        owner,
        "alter table folders add unique (tenant_id, id)",
        "alter table documents no force row level security",  # a forced policy lets no owner validate a key
        """alter table documents add foreign key (tenant_id, folder_id)
           references folders (tenant_id, id) on delete cascade""",
        "alter table documents force row level security",
    )
    write(owner, world.a.id, "insert into folders (id, title) values (1, 'alpha')")
    write(owner, world.b.id, "insert into folders (id, title) values (2, 'bravo')")
    write(owner, world.a.id, "insert into documents (title, folder_id) values ('alpha', 1)")
    with visiting(owner, APP, world.a):
        refuse(owner, "23503", "insert into documents (title, folder_id) values ('x', 2)")  # another tenant's
        refuse(owner, "23503", "insert into documents (title, folder_id) values ('x', 3)")  # nobody's: the same answer
    assert findings(owner) == []
    write(owner, world.a.id, "delete from folders")
    assert seen(owner, world, "select title from documents") == ([], [])
    assert seen(owner, world, "select title from folders") == ([], ["bravo"])


# Triggers


@pytest.mark.attack(38)
def test_what_a_trigger_writes_carries_the_tenant(world: World, owner: Connection) -> None:
    run(
        owner,
        "create table documents (title text)",
        "create table audit (id bigserial, title text)",
        """create function note() returns trigger language plpgsql as
           $$ begin insert into audit (title) values (new.title); return new; end $$""",
        "create trigger note after insert on documents for each row execute function note()",
    )
    isolate(owner, "documents")
    isolate(owner, "audit")
    fill(owner, world, "documents")
    assert seen(owner, world, "select title from audit") == ALONE


# Taken out again


def test_dropping_isolation_leaves_the_rows_and_closes_the_table_to_tenants(world: World, owner: Connection) -> None:
    run(owner, *PARTITIONED)
    isolate(owner, "events", permissions={"delete": "org:a:b"})
    fill(owner, world, "events")
    assert read(owner, "select tenantry.drop_isolation_v1('events')") == {"table": "events"}
    assert rows(owner, "select title from events") == ["alpha", "bravo"]
    assert rows(owner, "select polname::text from pg_policy where polrelid::regclass::text like 'events%'") == []
    with visiting(owner, APP, world.a):
        refuse(owner, "42501", "select title from events")
    assert {(code, name) for code, name, _ in findings(owner)} == {
        ("TC01", name) for name in ("events", "events_2026", "events_2026_1", "events_rest")
    }
    refuse(owner, "TY030", "select tenantry.drop_isolation_v1('events')", "not isolated")


def test_a_dropped_table_may_be_isolated_again(world: World, owner: Connection) -> None:
    run(owner, "create table documents (title text)")
    isolate(owner, "documents")
    fill(owner, world, "documents")
    run(owner, "select tenantry.drop_isolation_v1('documents')")
    isolate(owner, "documents")
    assert seen(owner, world, "select title from documents") == ALONE


# The mirror


@pytest.mark.parametrize("login", LOGINS)
def test_inside_a_tenant_the_mirror_is_its_own_part(world: World, owner: Connection, login: str) -> None:
    with visiting(owner, login, world.a):
        assert rows(owner, "select clerk_org_id from tenantry.tenants") == ["org_alpha"]
        assert rows(owner, "select id from tenantry.users") == ["user_alpha"]
        assert rows(owner, "select id from tenantry.tenant_memberships") == ["orgmem_alpha"]
        assert rows(owner, "select id from tenantry.members") == ["orgmem_alpha"]
        assert rows(owner, "select id from tenantry.invitations") == []
        assert rows(owner, "select id from tenantry.domains") == []
        for table in ("webhook_events", "changes", "consumers", "reconcile_runs", "ended_sessions"):
            refuse(owner, "42501", f"select * from tenantry.{table}")
        for table in ("tenants", "users", "tenant_memberships", "invitations", "role_permissions", "table_isolation"):
            refuse(owner, "42501", f"delete from tenantry.{table}")


@pytest.mark.parametrize("login", [APP, OWNER])
@pytest.mark.parametrize("table", ["tenants", "users", "tenant_memberships", "members"])
def test_without_a_tenant_the_mirror_fails_loudly_too(owner: Connection, login: str, table: str) -> None:
    become(owner, login)
    refuse(owner, "TY001", f"select * from tenantry.{table}")


def test_across_tenants_the_mirror_is_whole(world: World, owner: Connection) -> None:
    become(owner, APP)
    run(owner, "select tenantry.bypass_tenant_v1('a test')")
    assert rows(owner, "select clerk_org_id from tenantry.tenants") == ["org_alpha", "org_bravo"]
    assert rows(owner, "select id from tenantry.users") == ["user_alpha", "user_bravo"]


# The page about all this

PAGE = Path(__file__).parents[2] / "docs" / "isolation.md"


def test_every_statement_of_the_page_runs_in_its_order_and_leaves_nothing_to_find(database: Database) -> None:
    with database.connect(APP) as app:
        record(app, "organization.created", organization("org_2abc"), 1)
    statements = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    with database.connect(OWNER) as owner:
        run(owner, *statements)
        assert findings(owner) == []
    assert len(statements) > 10


def test_the_page_names_every_code_of_check_v1_once() -> None:
    folder = resources.files("tenantry").joinpath("sql", "functions")
    codes = {code for file in folder.iterdir() for code in re.findall(r"'(TC\d\d)'", file.read_text(encoding="utf-8"))}
    assert sorted(re.findall(r"^\| `(TC\d\d)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == sorted(codes)
