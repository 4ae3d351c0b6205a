"""Installing the schema: as whoever may, alone or at once, from Python or by psql, and what it leaves open to whom."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest

from databases import APP, OWNER, SUPERUSER, Database, Server
from sql.catalog import catalog
from sql.clerk_objects import event, user
from sql.mirror import Mirror
from tenantry import schema
from tenantry.errors import SchemaError

ROLES = ["tenantry_owner_gate", "tenantry_gate", "tenantry_bypass", "tenantry_app", "tenantry_tenant", "tenantry_owner"]


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def at_once(acts: list[Callable[[], Any]]) -> list[Any]:
    """The results of the acts, each in a thread of its own, begun together; an error is its result."""
    start = threading.Barrier(len(acts))
    results: list[Any] = [None] * len(acts)

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = acts[number]()
        except (psycopg.Error, SchemaError) as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def install_as(database: Database, login: str, *app_roles: str) -> list[str]:
    with database.connect(login) as connection:
        return schema.install(connection, app_roles=app_roles)


def make_installer(server: Server, name: str, database: Database) -> None:
    """A login as managed PostgreSQL gives it: owns the database, has CREATEROLE, is no superuser."""
    with database.connect(SUPERUSER) as connection:
        Mirror(connection).run(f"create role {name} login nosuperuser createrole")
        Mirror(connection).run(f"alter database {database.name} owner to {name}")


def assert_works_for_the_app(database: Database) -> None:
    with database.connect(APP) as connection:
        schema.require(connection)
        assert Mirror(connection).deliver(event("user.created", user()))["outcome"] == "applied"


def test_a_superuser_installs_and_the_second_time_changes_nothing(empty_database: Database) -> None:
    names = [f"{m.number:04} {m.name}" for m in schema.migrations()]
    assert install_as(empty_database, SUPERUSER, APP) == names
    before = catalog(empty_database)
    with empty_database.connect(SUPERUSER) as connection:
        assert schema.status(connection).current
        versions = connection.execute("select oid, xmin::text from pg_proc order by oid").fetchall()
        assert schema.install(connection, app_roles=[APP]) == []
        assert connection.execute("select oid, xmin::text from pg_proc order by oid").fetchall() == versions
    assert catalog(empty_database) == before
    assert_works_for_the_app(empty_database)


def test_the_connection_comes_back_as_it_was(empty_database: Database) -> None:
    with empty_database.connect(SUPERUSER, autocommit=False) as connection:
        schema.install(connection)
        assert connection.autocommit is False
        assert Mirror(connection).one("select current_user") == SUPERUSER
        assert Mirror(connection).one("select count(*) from pg_locks where locktype = 'advisory'") == 0


def test_changed_functions_are_made_anew(mirror: Mirror) -> None:
    mirror.run(
        "create or replace function tenantry.role_key(role text) returns text"
        " language sql immutable as $$ select 'x' $$"
    )
    mirror.run("comment on table tenantry.migrations is 'functions of before'")
    assert not schema.status(mirror.connection).current
    assert schema.install(mirror.connection) == []
    assert mirror.one("select tenantry.role_key('admin')") == "org:admin"


def test_a_plain_role_with_createrole_installs_into_the_database_it_owns(lone_server: Server) -> None:
    database = lone_server.create()
    make_installer(lone_server, "installer", database)
    assert len(install_as(database, "installer", APP)) == len(schema.migrations())
    assert install_as(database, "installer", APP) == []
    assert_works_for_the_app(database)
    with database.connect(SUPERUSER) as connection:
        connection.execute("comment on table tenantry.migrations is 'functions of before'")
    assert install_as(database, "installer", APP) == [], "an upgrade of the functions alone"
    with database.connect("installer") as connection:
        assert schema.status(connection).current


def test_a_second_database_with_another_installer_works_or_says_which_grant_it_lacks(lone_server: Server) -> None:
    first, second = lone_server.create(), lone_server.create()
    make_installer(lone_server, "installer_one", first)
    make_installer(lone_server, "installer_two", second)
    install_as(first, "installer_one", APP)
    if lone_server.version >= 16:  # CREATEROLE alone grants no role that another made
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as raised:
            install_as(second, "installer_two", APP)
        hint = raised.value.diag.message_hint or ""
        assert "admin option" in hint
        remedy = hint[hint.index("grant ") :].rstrip(".").replace("<this role>", "installer_two")
        with first.connect("installer_one") as connection:
            Mirror(connection).run(remedy)
    assert len(install_as(second, "installer_two", APP)) == len(schema.migrations())
    assert_works_for_the_app(second)


def test_a_login_without_createrole_is_told_what_it_needs(lone_server: Server) -> None:
    database = lone_server.create()
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as raised:
        install_as(database, OWNER)
    assert OWNER in str(raised.value)
    assert "CREATEROLE" in (raised.value.diag.message_hint or "")


def test_installers_at_once_in_one_database_install_once(empty_database: Database) -> None:
    results = at_once([partial(install_as, empty_database, SUPERUSER, APP)] * 4)
    assert sorted(len(applied) for applied in results) == [0, 0, 0, len(schema.migrations())]
    assert_works_for_the_app(empty_database)


@pytest.mark.parametrize("login", [SUPERUSER, "installer"])
def test_installers_at_once_in_several_databases_of_one_server_all_succeed(lone_server: Server, login: str) -> None:
    for _ in range(3):
        databases = [lone_server.create() for _ in range(4)]
        with databases[0].connect(SUPERUSER) as connection:
            connection.execute("drop role if exists installer")
            connection.execute("create role installer login nosuperuser createrole")
            for database in databases:
                Mirror(connection).run(f"alter database {database.name} owner to installer")
        results = at_once([partial(install_as, database, login, APP) for database in databases])
        assert [len(result) if isinstance(result, list) else result for result in results] == [
            len(schema.migrations())
        ] * 4
        for database in databases:
            assert_works_for_the_app(database)
            lone_server.drop(database)
        with psycopg.connect(lone_server.postgres.dsn("postgres"), autocommit=True) as connection:
            for role in ROLES:
                Mirror(connection).run(f"drop role {role}")


@pytest.mark.requires("psql")
def test_the_printed_sql_through_psql_gives_the_same_schema(database: Database, empty_database: Database) -> None:
    script = schema.sql(app_roles=[APP, OWNER])
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", empty_database.dsn(SUPERUSER), "-f", "-"]
    ran = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert catalog(empty_database) == catalog(database)
    with empty_database.connect(SUPERUSER) as connection:
        assert schema.status(connection).current
        assert schema.install(connection) == []
    assert_works_for_the_app(empty_database)


def test_the_command_prints_what_the_module_does() -> None:
    command = [sys.executable, "-m", "tenantry", "db", "sql", "--app-role", "app"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.rstrip("\n") == schema.sql(app_roles=["app"]).rstrip("\n")


def test_a_role_name_is_quoted_in_the_printed_sql() -> None:
    assert 'to "od""d; drop table x";' in schema.sql(app_roles=['od"d; drop table x'])


def test_a_newer_breaking_schema_is_refused_in_a_sentence(mirror: Mirror) -> None:
    mirror.run("insert into tenantry.migrations (number, name, breaking) values (9001, 'future', true)")
    for refuse in (schema.install, schema.require):
        with pytest.raises(SchemaError) as raised:
            refuse(mirror.connection)
        assert "9001" in raised.value.message
        assert "Upgrade the tenantry package" in (raised.value.hint or "")


def test_a_newer_schema_that_breaks_nothing_is_accepted_and_left_alone(mirror: Mirror) -> None:
    mirror.run("insert into tenantry.migrations (number, name, breaking) values (9001, 'future', false)")
    mirror.run("comment on table tenantry.migrations is 'functions 999.0.0 another'")
    mirror.run("comment on function tenantry.role_key(text) is 'of the newer release'")
    newer = "returns text language sql as $$ select 'newer' $$"
    mirror.run(f"create or replace function tenantry.role_key(role text) {newer}")
    schema.require(mirror.connection)
    assert schema.install(mirror.connection) == []
    assert mirror.one("select tenantry.role_key('x')") == "newer"


def test_a_newer_release_may_have_changed_functions_alone(mirror: Mirror) -> None:
    mirror.run("comment on table tenantry.migrations is 'functions 999.0.0 another'")
    schema.require(mirror.connection)
    assert schema.status(mirror.connection).newer


def test_an_older_releases_functions_are_brought_up_to_date(mirror: Mirror) -> None:
    mirror.run("comment on table tenantry.migrations is 'functions 0.0.1 another'")
    with pytest.raises(SchemaError) as raised:
        schema.require(mirror.connection)
    assert "tenantry db migrate" in (raised.value.hint or "")
    schema.install(mirror.connection)
    schema.require(mirror.connection)


def test_an_empty_database_is_refused_with_the_command_to_run(empty_database: Database) -> None:
    with empty_database.connect(SUPERUSER) as connection:
        assert schema.status(connection).installed == 0
        assert len(schema.status(connection).pending) == len(schema.migrations())
        with pytest.raises(SchemaError) as raised:
            schema.require(connection)
    assert "tenantry db migrate" in (raised.value.hint or "")


def test_an_app_role_gets_what_it_needs_and_no_ownership(mirror: Mirror, database: Database) -> None:
    for name in ("tenantry_tenant", "tenantry_app", "tenantry_gate"):
        assert mirror.one("select pg_has_role(%s, %s, 'member')", APP, name)
    for name in ("tenantry_owner", "tenantry_owner_gate"):
        assert not mirror.one("select pg_has_role(%s, %s, 'member')", APP, name)
    assert not mirror.one("select pg_has_role(%s, 'tenantry_bypass', 'usage')", APP), (
        "reached by SET ROLE, not inherited"
    )
    with database.connect(APP) as connection:
        forged = "insert into tenantry.changes (kind, object_id, cause) values ('x', 'x', 'x')"
        for statement in ("delete from tenantry.users", forged):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                Mirror(connection).run(statement)


def test_an_app_role_that_does_not_exist_is_named(mirror: Mirror) -> None:
    with pytest.raises(SchemaError) as raised:
        schema.install(mirror.connection, app_roles=["nobody"])
    assert "nobody" in raised.value.message
    assert "create role" in (raised.value.hint or "")


@pytest.mark.parametrize("attribute", ["superuser", "bypassrls"])
def test_an_app_role_that_no_policy_holds_is_refused(mirror: Mirror, attribute: str) -> None:
    mirror.run(f"create role powerful login {attribute}")
    try:
        with pytest.raises(SchemaError) as raised:
            schema.install(mirror.connection, app_roles=["powerful"])
        assert "powerful" in raised.value.message
    finally:
        mirror.run("drop role powerful")


def test_public_may_do_nothing_in_the_schema(mirror: Mirror) -> None:
    functions = mirror.column(
        "select oid::regprocedure::text from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) as acl"
        " where pronamespace = 'tenantry'::regnamespace and acl.grantee = 0"
    )
    relations = mirror.column(
        "select oid::regclass::text from pg_class, aclexplode(relacl) as acl"
        " where relnamespace = 'tenantry'::regnamespace and acl.grantee = 0"
    )
    assert (functions, relations) == ([], [])
    mirror.run("set role tenantry_owner")
    mirror.run("create function tenantry.added_later() returns integer language sql as 'select 1'")
    assert not mirror.one("select has_function_privilege('public', 'tenantry.added_later()', 'execute')")


def test_every_definer_function_pins_its_search_path(mirror: Mirror) -> None:
    rows = mirror.rows(
        "select proname, proconfig from pg_proc where pronamespace = 'tenantry'::regnamespace and prosecdef"
    )
    assert rows
    pinned = "search_path=pg_catalog, tenantry, pg_temp"
    assert [name for name, options in rows if pinned not in (options or [])] == []


def test_everything_belongs_to_the_owner_role(mirror: Mirror) -> None:
    owners = mirror.column(
        "select distinct proowner::regrole::text from pg_proc where pronamespace = 'tenantry'::regnamespace"
        " union select relowner::regrole::text from pg_class where relnamespace = 'tenantry'::regnamespace"
    )
    assert owners == ["tenantry_owner"]


# What queries, policies and defaults of a tenant use, and the five that must be called there only to be refused.
INSIDE_A_TENANT = {
    "current_context",
    "current_tenant_id",
    "current_org_id",
    "current_user_id",
    "has_role",
    "has_permission",
    "can",
    "permission_matches",
    "role_key",
    "raise_error",
    "refuse_second_context",
    "set_tenant_v1",
    "set_tenant_by_id_v1",
    "enter_change_v1",
    "bypass_tenant_v1",
    "end_bypass_v1",
}


def test_inside_a_tenant_only_the_functions_for_it_can_be_called(mirror: Mirror) -> None:
    rows = mirror.rows(
        "select proname, prosecdef from pg_proc where pronamespace = 'tenantry'::regnamespace"
        " and has_function_privilege('tenantry_tenant', oid, 'execute')"
    )
    assert {name for name, _ in rows} == INSIDE_A_TENANT
    assert [name for name, definer in rows if definer] == [], "none of them runs with the owner's rights"


def test_what_the_app_may_call_needs_no_function_it_may_not(mirror: Mirror) -> None:
    """An invoker function that calls one without a grant fails when it is called, not when it is made."""
    rows = mirror.rows(
        "select proname, prosrc, prosecdef, has_function_privilege('tenantry_app', oid, 'execute') from pg_proc"
        " where pronamespace = 'tenantry'::regnamespace"
    )
    callable_by_app = {name for name, _, _, granted in rows if granted}
    called = {
        (caller, callee)
        for caller, source, definer, granted in rows
        for callee, *_ in rows
        if granted and not definer and f"tenantry.{callee}(" in source
    }
    assert {(caller, callee) for caller, callee in called if callee not in callable_by_app} == set()
