"""Connections, pools and transactions: what reaches the next request once a defence is taken out.

Every row of tenant A holds the word `alpha`, every row of B `bravo`; a connection is a pool of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

import tenantry.sqlalchemy as adapter
from attacks.defences import rewrite_python, rewrite_sql
from conformance.pgbouncer import bouncing
from databases import APP, OWNER, SUPERUSER, Database
from instance import settings
from orm.world import Driver, acting
from sql.tenants import (
    Connection,
    Tenant,
    World,
    identity,
    inside,
    make_documents,
    make_world,
    refused,
    rows,
    run,
    set_tenant,
    undone,
)
from tenantry.errors import Leftovers, TenantAlreadySet
from tenantry.starlette import Tenantry

TITLES = "select title from documents order by 1"


@pytest.fixture
def world(database: Database) -> World:
    """A database of the test's own: what it takes out stays out."""
    made = make_world(database)
    make_documents(database, made.a, made.b)
    return made


@pytest.fixture
def app(world: World) -> Iterator[Connection]:
    """The app's one pooled connection."""
    with world.connect(APP) as connection:
        yield connection


def take_out(world: World, function: str, old: str, new: str) -> None:
    with world.connect(SUPERUSER) as connection:
        rewrite_sql(connection, function, old, new)


# --- settings and transactions ----------------------------------------------------------------------------------------


@pytest.mark.breach(1)
def test_a_tenant_set_for_the_session_reaches_whoever_borrows_the_connection_next(
    world: World, app: Connection
) -> None:
    take_out(world, "enter_tenant", ", true)", ", false)")
    backend = app.info.backend_pid
    with inside(app, world.b):
        pass
    assert app.info.backend_pid == backend
    assert rows(app, TITLES) == ["bravo"]


@pytest.mark.breach(8)
@pytest.mark.requires("pgbouncer")
def test_a_tenant_set_for_the_session_reaches_another_client_of_the_pooler(world: World) -> None:
    take_out(world, "enter_tenant", ", true)", ", false)")
    with (
        bouncing(world.database) as url,
        psycopg.connect(url, autocommit=True) as one,
        psycopg.connect(url, autocommit=True) as other,
    ):
        with inside(one, world.b):
            pass
        assert rows(other, TITLES) == ["bravo"]


HOOKS = {
    "once a session": (
        "_enter_tenant",
        "if transaction.nested:",
        "if transaction.nested or _ADMITTED in session.info:",
    ),
    "at each query": (
        "_confined",
        'event.listen(confined, "after_begin", _enter_tenant)',
        """event.listen(confined, "do_orm_execute", lambda state: _enter_tenant(
        state.session, state.session.get_transaction(), state.session.connection()))""",
    ),
}


def _after(ending: str) -> Any:
    def work(session: Session) -> list[str]:
        assert list(session.scalars(text(TITLES))) == ["alpha"]
        getattr(session, ending)()
        return list(session.scalars(text(TITLES)))

    return work


def _on_the_connection(session: Session) -> list[str]:
    return list(session.connection().exec_driver_sql(TITLES).scalars())


@pytest.mark.parametrize(
    ("hook", "work"),
    [
        pytest.param("once a session", _after("commit"), marks=pytest.mark.breach(2), id="commit"),
        pytest.param("once a session", _after("rollback"), marks=pytest.mark.breach(3), id="rollback"),
        pytest.param("at each query", _on_the_connection, marks=pytest.mark.breach(4), id="connection"),
    ],
)
async def test_a_tenant_entered_elsewhere_than_where_transactions_begin_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, hook: str, work: Any
) -> None:
    """The app's own role would be told so (TY001); a stronger login sees everything."""
    for login, taken_out in product((APP, SUPERUSER), (False, True)):
        with monkeypatch.context() as patch:
            if taken_out:
                rewrite_python(patch, adapter, *HOOKS[hook])
            driver = Driver.open("psycopg", world, login)
            with acting(world.a):
                if taken_out and login == APP:
                    with pytest.raises(DBAPIError, match="No tenant is set"):
                        await driver.run(work)
                else:
                    assert await driver.run(work) == (["alpha", "bravo"] if taken_out else ["alpha"])
            await driver.dispose()


@pytest.mark.parametrize("name", ["psycopg", "psycopg-async", "asyncpg"])
@pytest.mark.breach(9)
async def test_in_autocommit_a_tenant_ends_before_the_query(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rewrite_python(monkeypatch, adapter, "_enter_tenant", "if driver.autocommit:", "if False:")
    driver = Driver.open(name, world, SUPERUSER, isolation_level="AUTOCOMMIT")
    with acting(world.a):
        assert await driver.run(lambda session: list(session.scalars(text(TITLES)))) == ["alpha", "bravo"]
    await driver.dispose()


SWITCHES = {"release": "release savepoint s", "rollback": "rollback to savepoint s"}


@pytest.mark.attack(7)
@pytest.mark.parametrize("ending", SWITCHES)
def test_a_savepoint_does_not_switch_the_tenant(world: World, app: Connection, ending: str) -> None:
    with undone(app):
        set_tenant(app, identity(world.a))
        run(app, "savepoint s")
        with refused("TY002"), app.transaction():
            set_tenant(app, identity(world.b))
        run(app, SWITCHES[ending])
        assert rows(app, TITLES) == ["alpha"]


@pytest.mark.breach(7)
def test_without_the_refusal_a_released_savepoint_leaves_its_tenant_behind(world: World, app: Connection) -> None:
    take_out(world, "refuse_second_context", "perform", "-- perform")
    with world.connect(SUPERUSER) as connection:  # nor may a tenant call what sets another
        run(connection, "grant execute on all functions in schema tenantry to tenantry_tenant")
    with undone(app):
        set_tenant(app, identity(world.a))
        run(app, "savepoint s")
        set_tenant(app, identity(world.b))
        run(app, "release savepoint s")
        assert rows(app, TITLES) == ["bravo"]


# --- what a session keeps ---------------------------------------------------------------------------------------------


@pytest.mark.breach(10)
def test_without_the_refusal_a_held_cursor_answers_the_next_tenant(world: World, app: Connection) -> None:
    take_out(world, "refuse_leftovers", "if left_behind is not null", "if false")
    with inside(app, world.b):
        run(app, f"declare held cursor with hold for {TITLES}")
    with inside(app, world.a):
        assert rows(app, "fetch all from held") == ["bravo"]


@pytest.mark.attack(10)
def test_a_temporary_table_does_not_hide_others_from_the_refusal(world: World, app: Connection) -> None:
    with inside(app, world.b):
        run(
            app,
            "create temporary table documents as select * from documents",
            "create temporary table pg_class as select * from pg_catalog.pg_class limit 0",
        )
    with refused("TY003"), inside(app, world.a):
        assert rows(app, TITLES) == ["alpha"]


LEFT_BEHIND = [
    pytest.param("create temporary table kept as select title from documents", marks=pytest.mark.attack(10)),
    pytest.param(f"declare held cursor with hold for {TITLES}", marks=pytest.mark.attack(10)),
    pytest.param("set tenantry.tenant_id = '00000000-0000-0000-0000-000000000001'", marks=pytest.mark.attack(1)),
]


@pytest.mark.parametrize("statement", LEFT_BEHIND)
@pytest.mark.parametrize("name", ["psycopg", "psycopg-async", "asyncpg"])
async def test_a_connection_refused_for_what_a_tenant_left_on_it_is_not_handed_out_again(
    world: World, name: str, statement: str
) -> None:
    driver = Driver.open(name, world)

    def leave(session: Session) -> None:
        session.execute(text(statement))
        session.commit()

    def read_titles(session: Session) -> list[str]:
        return list(session.scalars(text(TITLES)))

    with acting(world.a):
        await driver.run(leave)
    with acting(world.b):
        with pytest.raises((Leftovers, TenantAlreadySet)):
            await driver.run(read_titles)
        try:
            assert await driver.run(read_titles) == ["bravo"]
        finally:
            await driver.dispose()


RUNNING = "select query from pg_stat_activity where query like '%whispers%' and pid <> pg_backend_pid()"


@pytest.fixture
def whisper(world: World) -> Iterator[str]:
    """What another request is running in B at this moment, on a connection of the same login."""
    statement = "select 'bravo whispers'"
    with world.connect(APP) as other, inside(other, world.b):
        run(other, statement)
        yield statement


@pytest.mark.attack(11)
@pytest.mark.parametrize("login", [APP, OWNER, SUPERUSER])
def test_the_statements_of_other_sessions_are_not_shown_to_a_tenant(world: World, whisper: str, login: str) -> None:
    with world.connect(login) as connection, inside(connection, world.a):
        assert rows(connection, RUNNING) == []


@pytest.mark.breach(11)
def test_without_the_switch_of_roles_a_tenant_reads_what_others_are_running(
    world: World, app: Connection, whisper: str
) -> None:
    take_out(world, "enter_tenant", "set_config('role', 'tenantry_tenant', true)", "1")
    with inside(app, world.a):
        assert rows(app, RUNNING) == [whisper]


# --- names and logins -------------------------------------------------------------------------------------------------


# Two organizations that are one to whoever cuts off a name of 63 bytes, or strips a prefix; and who would do it.
ALIASES = {
    "cut off": ("org_" + "x" * 60 + "1", "org_" + "x" * 60 + "2", "clerk_id::name"),
    "without its prefix": ("org_x", "tenant_org_x", "replace(clerk_id, 'tenant_', '')"),
}


def seen_by_the_second(app: Connection, first: str, second: str) -> list[str]:
    """What a member of the second organization sees, which the mirror has not heard of, once the first has a row."""
    known, unknown = (Tenant("", org_id, "user_" + org_id, "bravo") for org_id in (first, second))
    run(app, f"select tenantry.provision_v1('{json.dumps(identity(known))}')")
    with inside(app, known):
        run(app, "insert into documents (title) values ('bravo of an alias')")
    with inside(app, unknown):
        return rows(app, TITLES)


@pytest.fixture
def as_on_a_replica(world: World) -> None:
    """Where the row of an organization cannot be written, its tenant's id is derived."""
    take_out(world, "resolve_identity", "if not pg_is_in_recovery()", "if false")


@pytest.mark.attack(12)
@pytest.mark.usefixtures("as_on_a_replica")
@pytest.mark.parametrize("alias", ALIASES)
def test_organizations_with_similar_ids_are_not_the_same_tenant(app: Connection, alias: str) -> None:
    first, second, _ = ALIASES[alias]
    assert seen_by_the_second(app, first, second) == []


@pytest.mark.breach(12)
@pytest.mark.usefixtures("as_on_a_replica")
@pytest.mark.parametrize("alias", ALIASES)
def test_a_tenant_derived_from_part_of_an_id_is_anothers(world: World, app: Connection, alias: str) -> None:
    first, second, part = ALIASES[alias]
    take_out(world, "derive_tenant_id", "clerk_id, 'UTF8'", f"{part}, 'UTF8'")
    assert seen_by_the_second(app, first, second) == ["bravo of an alias"]


@pytest.mark.breach(13)
async def test_a_superusers_login_that_is_allowed_sees_everything_without_a_tenant(world: World) -> None:
    dsn = world.database.dsn(SUPERUSER)
    async with Tenantry(settings(world.database, database_url=dsn, allow_privileged_login=True)).lifespan():
        with world.connect(SUPERUSER) as connection:
            assert rows(connection, TITLES) == ["alpha", "bravo"]


@pytest.mark.breach(14)
def test_without_row_level_security_an_engine_that_nobody_scoped_sees_everything(world: World, app: Connection) -> None:
    with refused("TY001"):
        run(app, TITLES)
    with world.connect(OWNER) as owner:
        run(owner, "alter table documents disable row level security")
    assert rows(app, TITLES) == ["alpha", "bravo"]
