"""Where an app's own table of organizations and Tenantry's mirror of Clerk say different things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenantry.adopt.catalog import Schema, Table
from tenantry.adopt.names import plain
from tenantry.adopt.plan import Plan, Source

if TYPE_CHECKING:
    import psycopg

_NAMES = ("name", "title", "organization_name", "org_name")
_CALLED = {"name": "is called", "slug": "has the slug", "image_url": "has the image"}


@dataclass(frozen=True, slots=True)
class _Organization:
    """What one side says: `values` by what they are, as far as it has them; `live`, where it can tell."""

    values: Mapping[str, str | None]
    live: bool | None


def find(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> list[str]:
    """A sentence for each difference, with what following the mirror will do about it; none where the app has no such
    table with Clerk's ids, or it is isolated already."""
    source = plan.organizations
    table = schema.tables.get(source.table) if source else None
    if source is None or table is None or table.column(source.clerk_id) is None or table.isolation:
        return []
    return list(_compare(source, *_read(connection, source, table), ahead=source.then == "follow"))


def find_left(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> list[str]:
    """A sentence for each difference that is left in a table that follows the mirror."""
    source = plan.organizations
    if source is None or source.then != "follow" or source.table not in schema.tables:
        return []
    return list(_compare(source, *_read(connection, source, schema.tables[source.table]), ahead=False))


_Side = Mapping[str, _Organization]


def _read(connection: psycopg.Connection[Any], source: Source, table: Table) -> tuple[_Side, _Side]:
    """What the app's table and the mirror say, by Clerk's id. Behind isolation the table is read across tenants too."""
    with connection.transaction():
        told = None if table.isolation else _told(connection, source, table)
        connection.execute("select tenantry.bypass_tenant_v1('adopt: the drift of organizations')")
        if told is None:
            told = _told(connection, source, table)
        mirrored = connection.execute(
            "select clerk_org_id, name, slug, image_url, ended_at is null from tenantry.tenants"
            " where clerk_org_id is not null and (revision > 0 or ended_at is not null)"
        ).fetchall()
        connection.execute("select tenantry.end_bypass_v1()")
    return told, {clerk_id: _Organization(dict(zip(_CALLED, rest, strict=True)), live)
                  for clerk_id, *rest, live in mirrored}  # fmt: skip


def _told(connection: psycopg.Connection[Any], source: Source, table: Table) -> _Side:
    columns = {what: column for what, column in _columns(source, table).items() if table.column(column)}
    mark = table.column(source.columns.get("deleted_at", "")) if source.then == "follow" else None
    live = "null" if mark is None else f"{mark.name} is not true" if mark.type == "boolean" else f"{mark.name} is null"
    values = ", ".join(f"{column}::text" for column in columns.values())
    query = (
        f"select {source.clerk_id}::text, {live}::boolean{', ' if values else ''}{values} from {table.name}"
        f" where {source.clerk_id} is not null"
    )
    rows = connection.execute(query.encode()).fetchall()
    return {clerk_id: _Organization(dict(zip(columns, rest, strict=True)), live) for clerk_id, live, *rest in rows}


def _columns(source: Source, table: Table) -> Mapping[str, str]:
    """What there is to compare; of a table that does not follow its name, by what that is called."""
    if source.then == "follow":
        return {what: column for what, column in source.columns.items() if what in _CALLED}
    names = [column.name for column in table.columns if plain(column.name).lower() in _NAMES]
    return {"name": names[0]} if names else {}


def _compare(source: Source, told: _Side, mirrored: _Side, *, ahead: bool) -> Iterator[str]:
    table, follows = source.table, source.then == "follow"
    for clerk_id, ours in sorted(told.items()):
        theirs = mirrored.get(clerk_id)
        if theirs is None:
            yield f"{table}: {clerk_id} is not in the mirror: `tenantry reconcile`, or another instance has it."
        elif not theirs.live:
            if not follows or ours.live:
                yield f"{table}: {clerk_id} has been deleted at Clerk" + _ahead(ahead, "will be marked")
        else:
            for what, value in ours.values.items():
                known = theirs.values[what]
                if value != known and known is not None and (value is not None or follows):
                    said = "nothing" if value is None else f'"{value}"'
                    yield f'{table}: {clerk_id} {_CALLED[what]} {said}, and "{known}" at Clerk' + _ahead(
                        ahead, "will be changed"
                    )
            if ours.live is False:
                yield f"{table}: {clerk_id} is marked as deleted, and lives at Clerk" + _ahead(ahead, "will be changed")
    for clerk_id, theirs in sorted(mirrored.items()):
        if theirs.live and clerk_id not in told:
            yield f"{table}: {clerk_id} is missing" + _ahead(ahead, "will be added")


def _ahead(ahead: bool, what: str) -> str:
    return f": it {what}." if ahead else "."
