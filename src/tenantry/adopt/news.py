"""What has come into the database since a move began, and its plan does not know: tables, foreign keys, unique keys.

A plan that has begun is not edited. So each is told with what makes it fit beside the move.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tenantry.adopt import ddl
from tenantry.adopt.catalog import Index, Reference, Schema, Table
from tenantry.adopt.identity import Identity
from tenantry.adopt.names import listing, literal, plain, quote, shorten, split
from tenantry.adopt.step import Step
from tenantry.errors import AdoptionRefused


@dataclass(frozen=True, slots=True)
class News:
    """`open`: rows would be open to every tenant behind isolation, or could refer to another's."""

    sentence: str
    open: bool = True


def find(schema: Schema, tables: Mapping[str, Identity]) -> list[News]:
    """`tables` are those of the move, `schema` is today's."""
    found = []
    for table in schema.tables.values():
        if table.name not in tables and not table.isolation:
            found.append(News(_tell_table(schema, tables, table)))
        elif table.name in tables or table.isolation == "isolated":
            found += [News(told) for told in _tell_references(schema, tables, table)]
            found += [News(told, open=False) for told in _tell_keys(tables, table)]
    return found


def require_none(schema: Schema, tables: Mapping[str, Identity]) -> None:
    """Raises AdoptionRefused where isolation would leave something open."""
    if told := [news.sentence for news in find(schema, tables) if news.open]:
        raise AdoptionRefused(
            "The plan does not know what came after it:",
            detail="\n".join(f"- {sentence}" for sentence in told),
            hint="Then run it again: it goes on where it was.",
        )


def require_free(schema: Schema, tables: Mapping[str, Identity], steps: Iterable[Step]) -> None:
    """Nothing but the move's own keys may need the columns that undoing it takes away. Raises AdoptionRefused."""
    own = " ".join(statement for step in steps for statement in step.sql)
    told = []
    for table in schema.tables.values():
        for reference in table.references:
            target = tables.get(reference.target)
            made = target is not None and target.tenant not in target.columns.values()
            if target and made and target.tenant in reference.target_columns and f" {reference.name} " not in own:
                drop = f"alter table {table.name} drop constraint {reference.name};"
                told.append(
                    f"the foreign key {reference.name} of {table.name} refers to {target.tenant} of "
                    f"{reference.target}. Run: {drop}"
                )
    if told:
        raise AdoptionRefused(
            "Keys that came after the plan need what the move has made:",
            detail="\n".join(f"- {sentence}" for sentence in told),
            hint="Then undo again.",
        )


# --- tables -----------------------------------------------------------------------------------------------------------


def _tell_table(schema: Schema, tables: Mapping[str, Identity], table: Table) -> str:
    whole = next((name for name, identity in tables.items() if table.name in identity.parts), "")
    how = f"is no partition of {whole} any more" if whole else "is new"
    share = f"select tenantry.share_table_v1({literal(table.name)}, 'read');"
    own = "\n    ".join(_give_tenant(schema, tables, table))
    return (
        f"{table.name} {how}. If its rows are nobody's, say what tenants may do: read, write or none\n"
        f"    {share}\n  If they are tenants', isolate it for the app that sets a tenant:\n    {own}"
    )


def _give_tenant(schema: Schema, tables: Mapping[str, Identity], table: Table) -> Iterator[str]:
    """Statements that put a table behind isolation: its rows are whose the row is that a foreign key refers to."""
    parents = [each for each in table.references if each.target in tables and tables[each.target].tenant]
    parent = next((each for each in parents if tables[each.target].tenant not in each.target_columns), None)
    owner = next((each for each in table.references if each.target in tables and tables[each.target].mapping), None)
    name, key, keys = "tenant_id", "id", list[str]()
    if parent is not None:
        name, key = tables[parent.target].tenant, tables[parent.target].tenant_key
        keys = list(_carry(tables, table, parent, name))
        yield from _make_key(schema, tables, parent)
    yield "begin;"
    if table.column(name) is None:
        yield f"alter table {table.name} add column {name} {'uuid' if key == 'id' else 'text'};"
    if parent is not None and schema.tables[parent.target].isolation:
        pass  # nobody sees whose the rows are: isolate_table_v1 says what those of a table need that is not empty
    elif parent is not None:
        on = parent.joins("t", "p")
        yield f"update {table.name} as t set {name} = p.{name} from {parent.target} as p where {on};"
    elif owner is not None:
        known = f"{tables[owner.target].mapping} as m where m.key = t.{owner.columns[0]}"
        yield f"update {table.name} as t set {name} = m.tenant_id from {known};"
    else:
        yield f"update {table.name} set {name} = (whose the row is);"
    yield from keys
    options = "" if (name, key) == ("tenant_id", "id") else json.dumps({"column": plain(name), "key": key})
    yield f"select tenantry.isolate_table_v1({', '.join(map(literal, filter(None, [table.name, options])))});"
    yield "commit;"


# --- keys -------------------------------------------------------------------------------------------------------------


def _tell_references(schema: Schema, tables: Mapping[str, Identity], table: Table) -> Iterator[str]:
    """Foreign keys between tables of tenants that could lead from one tenant to another."""
    known = tables.get(table.name)
    for reference in table.references:
        target = tables.get(reference.target)
        if target is None or not target.tenant or (known and (reference.name in known.keys or not known.tenant)):
            continue
        column = known.tenant if known else target.tenant
        if table.column(column) is None or (known and known.tenant_key != target.tenant_key):
            continue
        if (column, target.tenant) not in zip(reference.columns, reference.target_columns, strict=True):
            statements = [*_make_key(schema, tables, reference), *_carry(tables, table, reference, column)]
            yield (
                f"the foreign key {reference.name} of {table.name} is new, and may lead to another tenant's row of "
                f"{reference.target}. Put the tenant into it:\n    " + "\n    ".join(statements)
            )


def _make_key(schema: Schema, tables: Mapping[str, Identity], reference: Reference) -> Iterator[str]:
    """What a foreign key with the tenant in it refers to, where that is not there yet."""
    target = schema.tables[reference.target]
    columns = (tables[target.name].tenant, *reference.target_columns)
    if not any(i.unique and i.valid and not i.predicate and set(i.columns) == set(columns) for i in target.indexes):
        name = quote(shorten(split(target.name)[1], *columns, "key"))
        manner = "" if target.partitioned else "concurrently "
        yield f"{ddl.index(target.name, Index(name, columns, unique=True), manner)};"


def _carry(tables: Mapping[str, Identity], table: Table, reference: Reference, column: str) -> Iterator[str]:
    """Puts the tenant into a foreign key; where one with it is there already, such as a detached partition's, that is
    enough."""
    wanted = {column, *reference.columns}
    if any(each.target == reference.target and set(each.columns) == wanted for each in table.references):
        yield f"alter table {table.name} drop constraint {reference.name};"
        return
    ours = listing((column, *reference.columns))
    theirs = listing((tables[reference.target].tenant, *reference.target_columns))
    later = "" if table.partitioned else " not valid"
    clause = f"foreign key ({ours}) references {reference.target} ({theirs}){ddl.actions(reference)}{later}"
    yield f"alter table {table.name} drop constraint {reference.name}, add constraint {reference.name} {clause};"
    if later:
        yield f"alter table {table.name} validate constraint {reference.name};"


def _tell_keys(tables: Mapping[str, Identity], table: Table) -> Iterator[str]:
    known = tables.get(table.name)
    for index in table.indexes if known and known.tenant else ():
        if index.unique and known and index.name not in known.keys and known.tenant not in index.columns:
            yield (
                f"the unique key {index.constraint or index.name} of {table.name} is new, and holds across tenants: a "
                f"value that one has no other can have. If that is not meant, make it one of ({known.tenant}, "
                f"{listing(index.columns)})."
            )
