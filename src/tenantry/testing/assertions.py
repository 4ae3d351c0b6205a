"""What users' tests assert about isolation: nothing found by check_v1, nothing shown to another tenant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tenantry import database, schema
from tenantry.database import connect
from tenantry.testing.clerk import Member, acting_as
from tenantry.testing.databases import Database

if TYPE_CHECKING:
    import psycopg

# What a transaction with a tenant may read, the mirror included.
_READABLE = """
    select c.oid::regclass::text from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
      and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
      and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
    order by 1
"""


def check_isolation(database: Database, *, accept: Iterable[str] = ()) -> None:
    """Fails with every finding of `check_v1` that is not accepted, by code (`TC12`) or code and object (`TC10 a_key`).

    Fails also for what is accepted and not found any more.
    """
    with connect(database.url) as connection:
        findings = schema.check(connection)
    accepted = set(accept)
    used = {name for finding in findings for name in (finding.code, f"{finding.code} {finding.object}")} & accepted
    open_ = [f for f in findings if not {f.code, f"{f.code} {f.object}"} & accepted]
    lines = [f"{f.code} {f.object}: {f.explanation}\n    fix: {f.fix}" for f in open_]
    lines += [f"{name} is accepted, and not found any more." for name in sorted(accepted - used)]
    if lines:
        raise AssertionError("The isolation is not complete.\n  " + "\n  ".join(lines))


def assert_hidden(text: str, *, owner: Member, stranger: Member) -> None:
    """Reads every table and view that a tenant may read: the owner finds the text in one, the stranger in none.

    Fails where the owner does not: nothing would have been looked for.
    """
    if not find_text(text, owner):
        raise AssertionError(f"{owner.handle} of {owner.tenant.name} finds {text!r} in no table: was it committed?")
    if shown := find_text(text, stranger):
        raise AssertionError(
            f"{stranger.handle} of {stranger.tenant.name} finds {text!r} of {owner.tenant.name} in {', '.join(shown)}."
        )


def find_text(text: str, member: Member) -> list[str]:
    """The tables and views in which this member can read the text, by plain SQL as the app's login."""
    connection = member.clerk.connection
    with acting_as(member) as scope, connection.transaction():
        database.run(connection, scope.enter())
        readable = [str(name) for (name,) in connection.execute(_READABLE).fetchall()]
        return [name for name in readable if _holds(connection, name, text)]


def _holds(connection: psycopg.Connection[Any], relation: str, text: str) -> bool:
    query = f"select exists (select from {relation} as t where strpos(t::text, %s) > 0)"  # quoted by the database
    row = connection.execute(query.encode(), [text]).fetchone()
    return bool(row and row[0])
