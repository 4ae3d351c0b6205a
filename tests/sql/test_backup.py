"""Back-up and restore where nobody is a superuser: a dump as the bypass holds everything, and comes back whole."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import psycopg
import pytest

from databases import APP, OWNER, SUPERUSER, Database, Server
from sql.tenants import (
    Connection,
    Tenant,
    World,
    bypassing,
    findings,
    identity,
    inside,
    make_documents,
    make_world,
    person,
    read,
    record,
    rows,
    run,
    set_tenant,
)
from tenantry.dev.binaries import find_binaries

AS_THE_BYPASS = ["--role=tenantry_bypass", "--enable-row-security"]


@pytest.fixture
def world(database: Database) -> World:
    """Two tenants with a row each, shared tables, a partition, a dead letter, an ended session, some changes placed."""
    made = make_world(database)
    make_documents(database, made.a, made.b)
    with made.connect(OWNER) as owner:
        run(
            owner,
            "create table countries (id serial primary key, name text)",
            "insert into countries (name) values ('Chile'), ('Peru')",
            "select tenantry.share_table_v1('countries', 'read')",
            "create table jobs (id bigint generated always as identity, name text)",
            "insert into jobs (name) values ('nightly')",
            "select tenantry.share_table_v1('jobs', 'none')",
            "create table companies (clerk_org_id text primary key, name text)",
            "select tenantry.share_table_v1('companies', 'none')",
            'select tenantry.follow_tenants_v1(\'companies\', \'{"columns": {"name": "name"}}\')',
            "create table events (title text, at date default '2026-05-05') partition by range (at)",
            "create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01')",
            "select tenantry.isolate_table_v1('events')",
            "create table alembic_version (version_num text)",
            "insert into alembic_version values ('0001')",
            "grant select on alembic_version to tenantry_bypass",
        )
    with made.connect(APP) as app:
        with inside(app, made.a):
            run(app, "insert into events (title) values ('alpha')")
        record(app, "session.ended", {"id": "sess_gone", "user_id": made.a.user_id}, time.time())
        run(app, "select tenantry.record_event_v1('msg_dead', '{}')", "select tenantry.sequence_changes_v1()")
        record(app, "user.created", person("user_late"), time.time())
    return made


@pytest.fixture
def restorer(server: Server) -> Iterator[str]:
    """A login that is no superuser and holds the roles that own what is restored."""
    maintenance = server.postgres.dsn("postgres")
    with psycopg.connect(maintenance, autocommit=True) as connection:
        run(connection, "create role restorer login", f"grant tenantry_owner, {OWNER} to restorer")
        yield "restorer"
        run(connection, "drop role restorer")


@pytest.fixture
def copy(server: Server) -> Iterator[Database]:
    """An empty database of the same cluster."""
    made = server.create()
    yield made
    server.drop(made)


def dump(database: Database, login: str) -> subprocess.CompletedProcess[str]:
    pg_dump = find_binaries(database.server.version).directory / "pg_dump"
    command = [str(pg_dump), *AS_THE_BYPASS, "--dbname", database.dsn(login)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def restore(dumped: str, database: Database, login: str = SUPERUSER) -> None:
    psql = find_binaries(database.server.version).directory / "psql"
    command = [str(psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", database.dsn(login)]
    dumped = dumped.replace("CREATE SCHEMA public;", "")  # a new database has it
    ran = subprocess.run(command, input=dumped, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def counts(database: Database) -> dict[str, int]:
    """The rows of every table, tenantry's own included."""
    with database.connect(SUPERUSER) as connection:
        tables = rows(
            connection,
            "select oid::regclass::text from pg_class where relkind = 'r'"
            " and relnamespace in ('public'::regnamespace, 'tenantry'::regnamespace)",
        )
        return {table: read(connection, f"select count(*) from {table}") for table in tables}


def sequences(connection: Connection) -> list[tuple[str, int | None]]:
    return connection.execute(
        "select schemaname || '.' || sequencename, last_value from pg_sequences order by 1"
    ).fetchall()


def titles(connection: Connection, tenant: Tenant) -> list[str]:
    with connection.transaction():
        set_tenant(connection, identity(tenant))
        return rows(connection, "select title from documents")


@pytest.mark.parametrize("login", [APP, OWNER])
def test_a_dump_as_the_bypass_restores_every_row_and_position(world: World, copy: Database, login: str) -> None:
    dumped = dump(world.database, login)
    assert dumped.returncode == 0, dumped.stderr
    restore(dumped.stdout, copy)

    expected = counts(world.database)
    assert counts(copy) == expected
    filled = {name.removeprefix("tenantry.") for name, number in expected.items() if number}
    assert filled >= {"documents", "countries", "jobs", "events_2026", "users", "webhook_events", "changes"}
    assert filled >= {"ended_sessions", "tenant_memberships", "table_isolation", "role_permissions", "clerk_instance"}

    with world.connect(SUPERUSER) as source, copy.connect(SUPERUSER) as restored:
        assert sequences(restored) == sequences(source)
        places = "select array_agg((seq, pos)::text order by seq) from tenantry.changes"
        assert read(restored, places) == read(source, places)
        assert read(restored, "select count(*) from tenantry.changes where pos is null") > 0
        assert findings(restored) == findings(source) == []
    with copy.connect(APP) as app:
        assert [titles(app, tenant) for tenant in (world.a, world.b)] == [["alpha"], ["bravo"]]
        with bypassing(app):
            assert rows(app, "select title from documents") == ["alpha", "bravo"]
        assert read(app, "select (tenantry.sequence_changes_v1() ->> 'sequenced')::integer") > 0


def test_no_superuser_is_needed_to_restore(world: World, restorer: str, copy: Database) -> None:
    with copy.connect(SUPERUSER) as connection:
        run(connection, f"alter database {copy.name} owner to {restorer}")
    restore(dump(world.database, APP).stdout, copy, restorer)
    assert counts(copy) == counts(world.database)
    with copy.connect(APP) as app:
        assert [titles(app, tenant) for tenant in (world.a, world.b)] == [["alpha"], ["bravo"]]


def test_a_table_the_bypass_may_not_read_fails_the_dump(world: World) -> None:
    with world.connect(OWNER) as owner:
        run(owner, "revoke select on alembic_version from tenantry_bypass")
    failed = dump(world.database, APP)
    assert failed.returncode != 0
    assert "permission denied for table alembic_version" in failed.stderr


def test_a_table_without_a_policy_for_the_bypass_is_dumped_empty_and_nothing_fails(
    world: World, copy: Database
) -> None:
    with world.connect(OWNER) as owner:
        run(owner, "drop policy tenantry_bypass on documents")
        assert "documents" in [name for _, name, _ in findings(owner)], "check_v1 says so"
    dumped = dump(world.database, APP)
    assert dumped.returncode == 0
    restore(dumped.stdout, copy)
    assert counts(copy)["documents"] == 0 < counts(world.database)["documents"]
