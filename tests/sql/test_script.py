"""The printed script in the hands of migration tools: in their transaction, sent whole, and from an earlier state."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

from databases import APP, OWNER, SUPERUSER, Database, Server
from snippets import blocks
from sql.catalog import catalog
from sql.mirror import Mirror
from tenantry import schema
from tenantry.errors import SchemaError

LATEST = schema.migrations()[-1].number
PAGE = "docs/migrations.md"

ENV = """
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""

ASYNC_ENV = """
import asyncio

from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine


def migrate(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


async def run():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"))
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(run())
"""

DOCUMENTS = """
from alembic import context, op

revision = "0002_documents"
down_revision = "0001_tenantry"


def upgrade():
    op.execute("create table documents (id int generated always as identity primary key, title text)")
    op.execute("select tenantry.isolate_table_v1('documents')")
    op.execute("select 1 / " + context.config.get_main_option("divisor"))
"""


@pytest.fixture
def deployment(lone_server: Server) -> Database:
    """A database as managed PostgreSQL gives it, and its `migrator`, who is no superuser."""
    database = lone_server.create()
    with database.connect(SUPERUSER) as connection:
        connection.execute("create role migrator login nosuperuser createrole")
        Mirror(connection).run(f"alter database {database.name} owner to migrator")
    return database


@pytest.fixture
def upgrade(deployment: Database, tmp_path: Path) -> Callable[[str, int], None]:
    """Runs `alembic upgrade head` by a driver over the page's revision and one that divides 1 by a number."""

    def run(driver: str, divisor: int) -> None:
        plain, by_asyncpg = blocks(PAGE, "python")
        versions = tmp_path / "versions"
        versions.mkdir(exist_ok=True)
        (tmp_path / "env.py").write_text(ASYNC_ENV if driver == "asyncpg" else ENV)
        (versions / "0001_tenantry.py").write_text(f"{plain}\n{by_asyncpg}" if driver == "asyncpg" else plain)
        (versions / "0001_tenantry.sql").write_text(schema.sql([APP], transactions=False))
        (versions / "0002_documents.py").write_text(DOCUMENTS)
        config = Config()
        config.set_main_option("script_location", str(tmp_path))
        config.set_main_option("divisor", str(divisor))
        config.set_main_option("sqlalchemy.url", deployment.url("migrator", driver).replace("%", "%%"))
        command.upgrade(config, "head")

    return run


def left_behind(database: Database) -> list[str]:
    """The tables, schemas and roles that are not PostgreSQL's own or the test's."""
    with database.connect(SUPERUSER) as connection:
        return Mirror(connection).column(
            "select relname from pg_class where relnamespace = 'public'::regnamespace"
            " union all select nspname from pg_namespace where nspname = 'tenantry'"
            " union all select rolname from pg_roles where rolname like 'tenantry%%'"
        )


def bring_to(database: Database, number: int) -> None:
    """As an older release left it: its migrations are the first ones of ours."""
    steps = schema.sql().split("\ncommit;")
    with database.connect(SUPERUSER) as connection:
        Mirror(connection).run("".join(f"{step}\ncommit;" for step in steps[:number]))
        assert schema.status(connection).installed == number


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_an_alembic_upgrade_that_fails_later_leaves_nothing_and_one_that_succeeds_leaves_all(
    deployment: Database, upgrade: Callable[[str, int], None], driver: str
) -> None:
    with pytest.raises(sqlalchemy.exc.DBAPIError, match="division by zero"):
        upgrade(driver, 0)
    assert left_behind(deployment) == []
    upgrade(driver, 1)
    with deployment.connect("migrator") as connection:
        assert schema.status(connection).current
        assert schema.install(connection) == []
        assert schema.check(connection) == []
    with deployment.connect(APP) as connection:
        schema.require(connection)


def test_an_alembic_upgrade_leaves_the_schema_that_the_command_does(
    deployment: Database, upgrade: Callable[[str, int], None], lone_server: Server
) -> None:
    upgrade("psycopg", 1)
    other = lone_server.create()
    with other.connect(SUPERUSER) as connection:
        Mirror(connection).run(f"alter database {other.name} owner to migrator")
    with other.connect("migrator") as connection:
        schema.install(connection, app_roles=[APP])
    assert catalog(deployment) == catalog(other)


def test_a_script_sent_whole_is_one_transaction(database: Database, empty_database: Database) -> None:
    """What Prisma and Drizzle do with a file."""
    script = schema.sql([APP, OWNER], transactions=False)
    with empty_database.connect(SUPERUSER) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            Mirror(connection).run(f"{script}\nselect 1 / 0;")
        assert schema.status(connection).installed == 0
        Mirror(connection).run(script)
    assert catalog(empty_database) == catalog(database)


@pytest.mark.requires("psql")
def test_psql_runs_it_in_a_single_transaction(database: Database, empty_database: Database) -> None:
    command = ["psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", empty_database.dsn(SUPERUSER), "-f", "-"]
    script = schema.sql([APP, OWNER], transactions=False)
    ran = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "WARNING" not in ran.stderr
    assert catalog(empty_database) == catalog(database)


def test_the_rest_of_the_transaction_is_as_if_nothing_had_been_set(empty_database: Database) -> None:
    with empty_database.connect(SUPERUSER, autocommit=False) as connection:
        mirror = Mirror(connection)
        mirror.run(schema.sql(transactions=False))
        assert mirror.one("select current_user") == SUPERUSER
        assert mirror.one("show check_function_bodies") == "on"


@pytest.mark.parametrize("transactions", [True, False], ids=["transactions", "no transactions"])
@pytest.mark.parametrize("number", range(1, LATEST))
def test_from_an_earlier_state_the_script_brings_what_is_missing(
    database: Database, empty_database: Database, number: int, transactions: bool
) -> None:
    bring_to(empty_database, number)
    with empty_database.connect(SUPERUSER) as connection:
        assert not schema.status(connection).current
        Mirror(connection).run(schema.sql([APP, OWNER], after=number, transactions=transactions))
        assert schema.status(connection).current
    assert catalog(empty_database) == catalog(database)


def test_from_the_latest_migration_the_script_makes_the_functions_anew(database: Database) -> None:
    before = catalog(database)
    with database.connect(SUPERUSER) as connection:
        mirror = Mirror(connection)
        mirror.run(
            "create or replace function tenantry.role_key(role text) returns text"
            " language sql immutable as $$ select 'x' $$"
        )
        mirror.run("comment on table tenantry.migrations is 'functions of before'")
        assert not schema.status(connection).current
        mirror.run(schema.sql(after=LATEST))
        assert schema.status(connection).current
    assert catalog(database) == before


def test_a_script_for_an_earlier_state_fails_in_a_later_one_and_changes_nothing(database: Database) -> None:
    before = catalog(database)
    with database.connect(SUPERUSER) as connection, pytest.raises(psycopg.errors.DuplicateTable):
        Mirror(connection).run(schema.sql(after=LATEST - 1, transactions=False))
    assert catalog(database) == before


@pytest.mark.parametrize("after", [-1, LATEST + 1])
def test_a_migration_that_does_not_exist_is_no_place_to_start(after: int) -> None:
    with pytest.raises(SchemaError, match=f"There is no migration {after}: this release has 1 to {LATEST}"):
        schema.sql(after=after)
