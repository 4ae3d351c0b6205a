"""What the tables of a move are, whatever they are called by now: by OID, as PostgreSQL knows them, since it began."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tenantry.adopt import catalog
from tenantry.adopt.catalog import Schema, Table
from tenantry.adopt.names import split
from tenantry.adopt.owners import mapping
from tenantry.adopt.plan import Plan, tenant_column
from tenantry.errors import AdoptionRefused

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True, slots=True)
class Identity:
    """A table when the move began. `columns` are its columns' names by number; of them `named` say whose rows are
    whose, and `indexed` are in its keys and indexes. `tenant` is the column of its tenant, '' where it is shared, and
    holds `tenant_key` of one. `keys` are its foreign keys and unique indexes, `parts` the OIDs of its partitions by
    name; `mapping` is the table of tenants, where it is one of users or of organizations."""

    oid: int
    columns: Mapping[str, str]
    named: tuple[str, ...] = ()
    indexed: tuple[str, ...] = ()
    tenant: str = ""
    tenant_key: str = ""
    keys: tuple[str, ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    mapping: str = ""


@dataclass(frozen=True, slots=True)
class Presence:
    """What is there of a move's tables and partitions. `gone`: not in the database any more, though another of the same
    name may be. `detached` from their tables; `parts` are the partitions that a table has by now."""

    gone: frozenset[str] = frozenset()
    detached: frozenset[str] = frozenset()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def left_out(self) -> frozenset[str]:
        """Where nothing is to be done any more."""
        return self.gone | self.detached

    def leaves(self, table: str, planned: tuple[str, ...]) -> tuple[str, ...]:
        """Those of a table that are still there, in the order of the plan, and then those that came later."""
        return (*(each for each in planned if each not in self.left_out), *self.newer(table, planned))

    def newer(self, table: str, planned: tuple[str, ...]) -> tuple[str, ...]:
        """Those that came later, maybe with the name of one that is gone."""
        return tuple(each for each in self.parts.get(table, ()) if each not in planned or each in self.gone)


def identify(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> dict[str, Identity]:
    """Of each table of the plan."""
    named = _name_columns(plan, schema)
    mappings = {source.table: mapping(kind) for source, kind in plan.sources(schema)}
    found = {}
    for oid, name, columns, parts in catalog.ask(connection, "identities"):
        decision, table = plan.of(name), schema.tables.get(name)
        if decision is None or table is None:
            continue
        tenant = tenant_column(plan, schema, decision) if decision.is_owned else None
        found[name] = Identity(
            oid,
            columns,
            tuple(sorted(named[name])),
            tuple(sorted(_index_columns(table) - named[name])),
            tenant.name if tenant else "",
            tenant.key if tenant else "",
            (*(each.name for each in table.references), *(each.name for each in table.indexes if each.unique)),
            parts,
            mappings.get(name, ""),
        )
    return found


def _name_columns(plan: Plan, schema: Schema) -> Mapping[str, set[str]]:
    """By table, the columns that say whose rows are whose."""
    named: dict[str, set[str]] = defaultdict(set)
    for decision in plan.owned:
        named[decision.table] |= set(decision.column)
        for reference in schema.tables[decision.table].references:
            named[decision.table] |= set(reference.columns)
            named[reference.target] |= set(reference.target_columns)
    for source in (plan.users, plan.organizations):
        if source is not None:
            named[source.table] |= {each for each in (source.key, source.clerk_id, source.email) if each}
    if plan.users is not None and plan.rows.column:
        named[plan.users.table].add(plan.rows.column)
    return named


def _index_columns(table: Table) -> set[str]:
    """Those that a successor of an index may name, its condition included."""
    found = {column for index in table.indexes for column in (*index.columns, *index.include)}
    words = {word for index in table.indexes for word in re.findall(r'"(?:[^"]|"")*"|\w+', index.predicate)}
    return {each.name for each in table.columns if each.name in found | words}


def look(connection: psycopg.Connection[Any], tables: Mapping[str, Identity]) -> Presence:
    """What is there now."""
    now = _read(connection, tables)
    parts: dict[str, list[str]] = defaultdict(list)
    gone, detached = set(), set()
    for table, identity in tables.items():
        found = now.get(identity.oid)
        if found is None or found.name != table:
            gone.add(table)
        for part, oid in identity.parts.items():
            there = now.get(oid)
            if there is None or there.name != part:
                gone.add(part)
            elif there.parent != identity.oid:
                detached.add(part)
    names = {identity.oid: table for table, identity in tables.items()}
    for each in now.values():
        if each.parent in names:
            parts[names[each.parent]].append(each.name)
    return Presence(frozenset(gone), frozenset(detached), {table: tuple(sorted(each)) for table, each in parts.items()})


def require_names(connection: psycopg.Connection[Any], tables: Mapping[str, Identity]) -> None:
    """Every table and partition that is still there must have the name that the steps know. Raises AdoptionRefused."""
    now = _read(connection, tables)
    _refuse([line for table, identity in tables.items() for line in _renamed(now, table, identity)])


def require_columns(connection: psycopg.Connection[Any], tables: Mapping[str, Identity], *, indexed: bool) -> None:
    """So must the columns that steps name, with those of indexes where some are still to be built: `indexed`."""
    columns = read_columns(connection, tables)
    problems = []
    for table, identity in tables.items():
        wanted = {*identity.named, *(identity.indexed if indexed else ())}
        for number, name in identity.columns.items():
            now = columns.get(table, identity.columns).get(number)
            if name in wanted and now is None:
                problems.append(f"{table} has no column {name} any more, which steps name: undo, and plan again.")
            elif name in wanted and now != name:
                mend = f"alter table {table} rename column {now} to {name};"
                problems.append(f"{table}: its column {name} is called {now} now. Run: {mend}")
    _refuse(problems)


def require_tenants(connection: psycopg.Connection[Any], tables: Mapping[str, Identity]) -> None:
    """Every table must still have the column that the move gave it. Raises AdoptionRefused."""
    columns = read_columns(connection, tables)
    lost = [
        f"{table} has no column {identity.tenant} any more, which the move gave it: rename it back, or undo."
        for table, identity in tables.items()
        if identity.tenant and table in columns and identity.tenant not in columns[table].values()
    ]
    _refuse(lost)


def require_tables(connection: psycopg.Connection[Any], tables: Mapping[str, Identity]) -> None:
    """Every table must still be there. Raises AdoptionRefused."""
    there = look(connection, tables)
    gone = [table for table in tables if table in there.gone]
    told = [f"{table} is not in the database any more." for table in gone]
    _refuse(told, "`tenantry adopt undo` brings the others back to where they were; then plan again without it.")


def read_columns(
    connection: psycopg.Connection[Any], tables: Mapping[str, Identity]
) -> Mapping[str, Mapping[str, str]]:
    """The names that columns have now, by table and number; of tables that are still there."""
    oids = {identity.oid: table for table, identity in tables.items()}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for oid, number, name in connection.execute(_COLUMNS, [list(oids)]).fetchall():
        found[oids[oid]][str(number)] = name
    return found


def _refuse(problems: Sequence[str], hint: str = "Then run it again: it goes on where it was.") -> None:
    if problems:
        raise AdoptionRefused(
            "The database has changed since the move began:",
            detail="\n".join(f"- {problem}" for problem in problems),
            hint=hint,
        )


def _renamed(now: Mapping[int, _Relation], table: str, identity: Identity) -> Iterator[str]:
    found = now.get(identity.oid)
    if found is not None and found.name != table:
        yield f"{table} is called {found.name} now. Run: {_rename(found.name, table)}"
    for part, oid in identity.parts.items():
        there = now.get(oid)
        if there is not None and there.name != part and there.parent == identity.oid:
            yield f"{part}, a partition of {table}, is called {there.name} now. Run: {_rename(there.name, part)}"


def _rename(now: str, before: str) -> str:
    (space, name), (its_space, its_name) = split(now), split(before)
    lines = [f"alter table {now} rename to {its_name};"] if name != its_name else []
    lines += [f"alter table {space}.{its_name} set schema {its_space};"] if space != its_space else []
    return " ".join(lines)


@dataclass(frozen=True, slots=True)
class _Relation:
    name: str
    parent: int | None


def _read(connection: psycopg.Connection[Any], tables: Mapping[str, Identity]) -> Mapping[int, _Relation]:
    """By OID, what is there of tables, of their partitions when the move began, and of those they have now."""
    parents = [identity.oid for identity in tables.values()]
    known = parents + [oid for identity in tables.values() for oid in identity.parts.values()]
    rows = connection.execute(_RELATIONS, [known, parents]).fetchall()
    return {oid: _Relation(name, parent) for oid, name, parent in rows}


_RELATIONS = """
select c.oid::bigint, format('%%I.%%I', n.nspname, c.relname),
  (select h.inhparent::bigint from pg_inherits as h
   where h.inhrelid = c.oid and c.relispartition and not h.inhdetachpending)
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where c.oid = any (%s::oid[])
  or c.oid in (select h.inhrelid from pg_inherits as h join pg_class as p on p.oid = h.inhparent
               where h.inhparent = any (%s::oid[]) and p.relkind = 'p')"""

_COLUMNS = """
select a.attrelid::bigint, a.attnum, quote_ident(a.attname)
from pg_attribute as a where a.attrelid = any (%s::oid[]) and a.attnum > 0 and not a.attisdropped"""
