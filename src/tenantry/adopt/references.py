"""References that the database does not enforce: what is in them, which no foreign key has seen to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tenantry.adopt import answers
from tenantry.adopt.catalog import Reference, Schema, Table
from tenantry.adopt.names import listing, plain
from tenantry.adopt.plan import Decision, Plan, reference_of

if TYPE_CHECKING:
    import psycopg


def list_problems(connection: psycopg.Connection[Any], schema: Schema, decision: Decision) -> Iterator[str]:
    """Why rows would get the tenant of somebody else's."""
    reference, table = _unenforced(schema, decision), schema.tables[decision.table]
    kind = polymorphic(table).get(reference.columns[0]) if reference and len(reference.columns) == 1 else None
    if reference is None or kind is None:
        return
    query = f"select count(distinct {kind}) from {table.name} where {reference.columns[0]} is not null"
    if (kinds := answers.value(connection, query)) > 1:
        yield (
            f"{reference.columns[0]} refers to one of several tables: {kind} says which, and holds {kinds} values. "
            "Rows of the others would get a tenant by chance: choose another owner."
        )


def list_notices(connection: psycopg.Connection[Any], plan: Plan, schema: Schema, decision: Decision) -> Iterator[str]:
    """Rows that refer to nothing, and what moving a row that others refer to would cost."""
    reference = _unenforced(schema, decision)
    if reference is None:
        return
    column = listing(reference.columns)
    if count := answers.value(connection, dangling_rows(schema, decision)):
        fate = "go to the rest" if plan.rows.rest else "need mending, or somebody who gets the rest, before `isolate`"
        yield f"{count} of its rows refer by {column} to no row of {decision.refers_to}, and {fate}."
    indexes = schema.tables[decision.table].indexes
    width = len(reference.columns)
    if decision.tenant == "reference" and not any(
        set(index.columns[:width]) == set(reference.columns) and index.valid and not index.predicate
        for index in indexes
    ):
        yield (
            f"no index is on {column}: until `contract`, whoever gives a row of {reference.target} another owner waits "
            "while all rows here are read."
        )


def dangling_rows(schema: Schema, decision: Decision, where: str = "true") -> str:
    """The query that counts the rows, `t`, that refer to nothing."""
    reference = _unenforced(schema, decision)
    if reference is None:
        return "select 0"
    source = f"from {decision.table} as t left join {reference.target} as p on {reference.joins('t', 'p')}"
    return f"select count(*) {source} where {dangling(reference, 't', 'p')} and {where}"


def dangling(reference: Reference, row: str, above: str) -> str:
    """In SQL: whether a row refers to nothing, where `above` is left-joined to it as what it refers to."""
    named = [f"{row}.{column} is not null" for column in reference.columns]
    return " and ".join([*named, *(f"{above}.{column} is null" for column in reference.target_columns)])


def polymorphic(table: Table) -> dict[str, str]:
    """Columns that refer to one of several tables -> those that say which: `owner_id` -> `owner_type`."""
    names = {plain(column.name): column.name for column in table.columns}
    found = {names[f"{name[:-5]}_id"]: kind for name, kind in sorted(names.items())
             if name.endswith("_type") and f"{name[:-5]}_id" in names}  # fmt: skip
    if {"object_id", "content_type_id"} <= names.keys():
        found[names["object_id"]] = names["content_type_id"]
    return found


def _unenforced(schema: Schema, decision: Decision) -> Reference | None:
    reference = reference_of(schema, decision) if decision.refers_to else None
    return None if reference is None or reference.enforced else reference
