"""Where an app's own table of organizations and Tenantry's mirror of Clerk say different things."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tenantry.adopt.catalog import Schema
from tenantry.adopt.names import plain
from tenantry.adopt.plan import Plan

if TYPE_CHECKING:
    import psycopg

_NAMES = ("name", "title", "organization_name", "org_name")


def find(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> list[str]:
    """A sentence for each difference; none where the app has no such table with Clerk's ids."""
    source = plan.organizations
    table = schema.tables.get(source.table) if source else None
    if source is None or table is None or table.column(source.clerk_id) is None or table.isolation:
        return []
    name = next((c.name for c in table.columns if plain(c.name).lower() in _NAMES), "null")
    query = f"select {source.clerk_id}::text, {name}::text from {table.name} where {source.clerk_id} is not null"
    told = dict(connection.execute(query.encode()).fetchall())
    return list(_compare(table.name, told, _mirrored(connection)))


def _mirrored(connection: psycopg.Connection[Any]) -> dict[str, tuple[str | None, bool]]:
    """Name, and whether it is live, by Clerk's id."""
    with connection.transaction():
        connection.execute("select tenantry.bypass_tenant_v1('adopt: the drift of organizations')")
        rows = connection.execute(
            "select clerk_org_id, name, ended_at is null from tenantry.tenants where clerk_org_id is not null"
        ).fetchall()
    return {clerk_id: (name, live) for clerk_id, name, live in rows}


def _compare(table: str, told: dict[str, str | None], mirrored: dict[str, tuple[str | None, bool]]) -> Iterator[str]:
    for clerk_id, name in sorted(told.items()):
        known, live = mirrored.get(clerk_id, (None, False))
        if clerk_id not in mirrored:
            yield f"{table}: {clerk_id} is not in the mirror: `tenantry reconcile`, or another instance has it."
        elif not live:
            yield f"{table}: {clerk_id} has been deleted at Clerk."
        elif name is not None and known is not None and name != known:
            yield f'{table}: {clerk_id} is called "{name}", and "{known}" at Clerk.'
    for clerk_id in sorted(clerk_id for clerk_id, (_, live) in mirrored.items() if live and clerk_id not in told):
        yield f"{table}: {clerk_id} is missing."
