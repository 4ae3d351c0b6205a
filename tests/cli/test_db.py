"""`tenantry db` installs, describes, prints and checks the schema, and can be run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from databases import APP, OWNER, SUPERUSER, Database


def tenantry_db(database: Database, *arguments: str, user: str = SUPERUSER) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TENANTRY_MIGRATION_URL"}
    command = [sys.executable, "-m", "tenantry", "db", *arguments]
    environment |= {"DATABASE_URL": database.dsn(user), "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def has_schema(database: Database) -> bool:
    with database.connect(SUPERUSER) as connection:
        return connection.execute("select to_regnamespace('tenantry') is not null").fetchone() == (True,)


def test_migrate_installs_and_says_what_it_applied(empty_database: Database) -> None:
    answer = tenantry_db(empty_database, "migrate", "--app-role", APP)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("applied 0001 ")
    assert has_schema(empty_database)
    with empty_database.connect(SUPERUSER) as connection:
        member = connection.execute("select pg_has_role(%s, 'tenantry_tenant', 'member')", [APP]).fetchone()
    assert member == (True,)


def test_migrate_again_applies_nothing(database: Database) -> None:
    answer = tenantry_db(database, "migrate", "--app-role", APP)
    assert (answer.returncode, answer.stdout) == (0, "The schema is up to date.\n")


def test_migrate_for_a_role_nobody_has_is_a_sentence(database: Database) -> None:
    answer = tenantry_db(database, "migrate", "--app-role", "no such; role")
    assert answer.returncode == 1
    assert 'There is no role "no such; role".' in answer.stderr
    assert "Traceback" not in answer.stderr


def test_migrate_without_the_rights_is_a_sentence(empty_database: Database) -> None:
    answer = tenantry_db(empty_database, "migrate", user=APP)
    assert answer.returncode == 1
    assert f"{APP} may not" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not has_schema(empty_database)


def test_the_url_of_migrations_goes_before_the_apps(empty_database: Database) -> None:
    environment = os.environ | {
        "DATABASE_URL": empty_database.dsn(APP),
        "TENANTRY_MIGRATION_URL": empty_database.url(SUPERUSER, "asyncpg"),
    }
    command = [sys.executable, "-m", "tenantry", "db", "migrate"]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert has_schema(empty_database)


def test_status_tells_a_current_schema_from_an_empty_database(database: Database, empty_database: Database) -> None:
    current = tenantry_db(database, "status", "--json")
    assert current.returncode == 0
    assert json.loads(current.stdout)["pending"] == []
    empty = tenantry_db(empty_database, "status", "--json")
    assert empty.returncode == 1
    assert json.loads(empty.stdout)["installed"] == 0
    assert "pending 0001" in tenantry_db(empty_database, "status").stdout


def test_printed_sql_installs_the_same_schema(empty_database: Database) -> None:
    script = tenantry_db(empty_database, "sql", "--app-role", APP).stdout
    with empty_database.connect(SUPERUSER) as connection:
        connection.execute(script.encode())
    assert tenantry_db(empty_database, "status").returncode == 0


def test_printed_sql_for_a_tool_runs_in_the_tools_transaction(empty_database: Database) -> None:
    script = tenantry_db(empty_database, "sql", "--no-transactions").stdout
    with empty_database.connect(SUPERUSER, autocommit=False) as connection:
        connection.execute(script.encode())
        connection.rollback()
        assert not has_schema(empty_database)
        connection.execute(script.encode())
    assert tenantry_db(empty_database, "status").returncode == 0


def test_printed_sql_from_the_installed_migration_is_the_functions_alone(database: Database) -> None:
    latest = str(json.loads(tenantry_db(database, "status", "--json").stdout)["installed"])
    script = tenantry_db(database, "sql", "--from", latest).stdout
    assert "create or replace function" in script
    assert "create table" not in script
    with database.connect(SUPERUSER) as connection:
        connection.execute(script.encode())
    assert tenantry_db(database, "status").returncode == 0


def test_printed_sql_from_a_migration_nobody_knows_is_a_sentence(database: Database) -> None:
    answer = tenantry_db(database, "sql", "--from", "99")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "There is no migration 99" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.requires("psql")
def test_printed_sql_runs_through_psql(empty_database: Database) -> None:
    script = tenantry_db(empty_database, "sql").stdout
    command = ["psql", "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", empty_database.dsn(SUPERUSER)]
    answer = subprocess.run(command, input=script, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert tenantry_db(empty_database, "status").returncode == 0


def test_check_is_quiet_when_every_table_is_isolated(database: Database) -> None:
    answer = tenantry_db(database, "check")
    assert (answer.returncode, answer.stdout) == (0, "Nothing found: every table is isolated or shared.\n")


def test_check_names_a_table_that_is_neither_isolated_nor_shared(database: Database) -> None:
    with database.connect(OWNER) as connection:
        connection.execute("create table forgotten (id int primary key)")
    answer = tenantry_db(database, "check")
    assert answer.returncode == 1
    assert "forgotten" in answer.stdout
    findings = json.loads(tenantry_db(database, "check", "--json").stdout)
    assert any("forgotten" in finding["object"] for finding in findings)
