"""Makes two tenants whose rows can be told apart, their members, and the facts of verified tokens.

Everything enters through the published functions, as the app's ordinary login: events for the mirror, identities for
the context.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import psycopg
import pytest

from databases import APP, OWNER, Database, Server

Connection = psycopg.Connection[Any]
_numbers = count(1)

INSTANCE = "ins_test"
PAST = 3600  # when the mirror's snapshots were true: so many seconds ago


@dataclass(frozen=True)
class Tenant:
    """An organization, its one member, and the word that is in every row of it and in none of another's."""

    id: str
    org_id: str
    user_id: str
    sentinel: str


def read(connection: Connection, statement: str, *values: object) -> Any:
    """The first column of the first row."""
    row = connection.execute(statement, values or None).fetchone()
    return row[0] if row else None


def rows(connection: Connection, statement: str, *values: object) -> list[Any]:
    """The first column of every row, sorted."""
    return sorted(row[0] for row in connection.execute(statement, values or None).fetchall())


def run(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(statement)


@contextmanager
def refused(sqlstate: str, match: str | None = None) -> Iterator[None]:
    """The body must fail with exactly this SQLSTATE; `match` is searched in message, detail and hint."""
    with pytest.raises(psycopg.Error) as caught:
        yield
    error = caught.value
    text = " ".join(filter(None, [str(error), error.diag.message_detail, error.diag.message_hint]))
    assert error.sqlstate == sqlstate, text
    if match is not None:
        assert match in text, text


def record(connection: Connection, type_: str, data: dict[str, Any], at: float) -> str:
    """Delivers an event of Clerk that was true at `at` (seconds); answers the outcome."""
    event = {"type": type_, "object": "event", "data": data, "timestamp": int(at * 1000), "instance_id": INSTANCE}
    answer = read(
        connection, "select tenantry.record_event_v1(%s, %s::jsonb)", f"msg_{next(_numbers)}", json.dumps(event)
    )
    return str(answer["outcome"])


def organization(org_id: str, **content: object) -> dict[str, Any]:
    return {
        "id": org_id,
        "object": "organization",
        "name": f"Name of {org_id}",
        "slug": None,
        "updated_at": 1,
        **content,
    }


def person(user_id: str, **content: object) -> dict[str, Any]:
    address = {"id": "idn_1", "email_address": f"{user_id}@example.com"}
    emails = {"email_addresses": [address], "primary_email_address_id": "idn_1"}
    return {
        "id": user_id,
        "object": "user",
        "first_name": f"First of {user_id}",
        "banned": False,
        "updated_at": 1,
        **emails,
        **content,
    }


def membership(id_: str, org_id: str, user_id: str, role: str = "org:member", **content: object) -> dict[str, Any]:
    return {
        "id": id_,
        "object": "organization_membership",
        "organization": organization(org_id),
        "public_user_data": {"user_id": user_id},
        "role": role,
        "permissions": [],
        "created_at": 1,
        "updated_at": 1,
        **content,
    }


def make_tenant(database: Database, sentinel: str, role: str = "org:member") -> Tenant:
    """An organization with one member, both known to the mirror for an hour."""
    org_id, user_id, at = f"org_{sentinel}", f"user_{sentinel}", time.time() - PAST
    with database.connect(APP) as connection:
        record(connection, "user.created", person(user_id), at)
        record(connection, "organization.created", organization(org_id), at)
        record(
            connection, "organizationMembership.created", membership(f"orgmem_{sentinel}", org_id, user_id, role), at
        )
        id_ = read(connection, "select (tenantry.find_tenant(%s)).id", org_id)
    return Tenant(str(id_), org_id, user_id, sentinel)


@dataclass(frozen=True)
class World:
    """A database with two tenants."""

    database: Database
    a: Tenant
    b: Tenant

    def connect(self, login: str = APP) -> Connection:
        return self.database.connect(login)


def make_world(database: Database) -> World:
    return World(database, make_tenant(database, "alpha"), make_tenant(database, "bravo"))


@contextmanager
def open_world(server: Server, template: str) -> Iterator[World]:
    """For all tests of a module, each of which leaves it as it was: a database costs more than most tests."""
    database = server.create(template)
    yield make_world(database)
    server.drop(database)


def identity(tenant: Tenant, **changes: object) -> dict[str, Any]:
    """A fresh token's facts, as `tokens.py` hands them on; a change to None leaves the fact out."""
    now = int(time.time())
    facts = {
        "user_id": tenant.user_id,
        "org_id": tenant.org_id,
        "role": "org:member",
        "permissions": [],
        "session_id": f"sess_{tenant.sentinel}",
        "issued_at": now,
        "expires_at": now + 60,
        "instance_id": INSTANCE,
    }
    return {name: value for name, value in {**facts, **changes}.items() if value is not None}


def set_tenant(connection: Connection, facts: dict[str, Any]) -> dict[str, Any]:
    """Enters a tenant in the connection's open transaction; answers the context."""
    return cast(dict[str, Any], read(connection, "select tenantry.set_tenant_v1(%s::jsonb)", json.dumps(facts)))


@contextmanager
def inside(connection: Connection, tenant: Tenant, **changes: object) -> Iterator[dict[str, Any]]:
    """A transaction in this tenant."""
    with connection.transaction():
        yield set_tenant(connection, identity(tenant, **changes))


@contextmanager
def bypassing(connection: Connection) -> Iterator[None]:
    """A transaction across tenants."""
    with connection.transaction():
        run(connection, "select tenantry.bypass_tenant_v1('a test looks at everything')")
        yield


@contextmanager
def undone(connection: Connection) -> Iterator[None]:
    """A transaction that leaves nothing behind."""
    with connection.transaction(force_rollback=True):
        yield


def become(connection: Connection, login: str) -> None:
    """Within a superuser's transaction: from here on the session is this login's, as if it had connected."""
    run(connection, "reset session authorization", f"set local session authorization {login}")


@contextmanager
def visiting(connection: Connection, login: str, tenant: Tenant | None) -> Iterator[None]:
    """Within a superuser's transaction: this login, in this tenant or in none; undone at the end."""
    with connection.transaction(force_rollback=True):
        become(connection, login)
        if tenant is not None:
            set_tenant(connection, identity(tenant))
        yield


def refuse(connection: Connection, sqlstate: str, statement: str, match: str | None = None) -> None:
    """The statement must fail with this SQLSTATE; the transaction goes on."""
    with refused(sqlstate, match), connection.transaction():
        run(connection, statement)


def isolate(connection: Connection, table: str, **options: object) -> dict[str, Any]:
    statement = "select tenantry.isolate_table_v1(%s::regclass, %s::jsonb)"
    return cast(dict[str, Any], read(connection, statement, table, json.dumps(options)))


def findings(connection: Connection) -> list[tuple[str, str, str]]:
    """What check_v1 finds: code, object, fix."""
    return connection.execute("select code, object, fix from tenantry.check_v1()").fetchall()


def make_documents(database: Database, *tenants: Tenant) -> None:
    """The app's table, made and isolated by its owner; one row a tenant, written inside it, titled by its sentinel."""
    with database.connect(OWNER) as owner:
        run(owner, "create table documents (id bigint generated always as identity primary key, title text not null)")
        isolate(owner, "documents")
    with database.connect(APP) as app:
        for tenant in tenants:
            with inside(app, tenant):
                app.execute("insert into documents (title) values (%s)", [tenant.sentinel])
