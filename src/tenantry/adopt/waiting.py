"""Rows that wait while a move is under way: for the next `tenantry adopt apply`, or for an organization to be named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenantry.adopt import answers, steps
from tenantry.adopt.catalog import SCHEMA, Schema
from tenantry.adopt.names import literal
from tenantry.adopt.plan import Plan, Source, value_of
from tenantry.adopt.step import Known, Line

if TYPE_CHECKING:
    import psycopg

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows of a table whose owner has a tenant by now that they have not: those without one, and those of another; and
    the rows of another whose owner has gone where no organization is named yet."""

    without: int = 0
    following: int = 0
    unnamed: int = 0


def is_open(plan: Plan, schema: Schema) -> bool:
    """Whether rows still go with their owners: once isolation has begun to hide them, a row is whose it was written by.
    Where a table is gone nobody can tell."""
    tables = [schema.tables.get(decision.table) for decision in plan.decisions]
    return all(table is not None for table in tables) and not any(
        schema.tables[decision.table].isolation for decision in plan.owned
    )


def list_queries(plan: Plan, schema: Schema, known: Known) -> dict[str, str]:
    """By table the query that tells what of it is `Waiting`, as the tables' owner; none where nothing can."""
    if not is_open(plan, schema):
        return {}
    moved = [each for each in steps.list_transitions(plan, schema, known) if each.column.is_new]
    return {each.table.name: query for each in moved if (query := each.waiting())}


def list_unnamed(
    connection: psycopg.Connection[Any], plan: Plan, schema: Schema, added: Sequence[Line] = ()
) -> list[tuple[str, str]]:
    """Users, or organizations of the app, of whom nobody knows yet where their rows go: their table, and a sentence.
    `added` is what the plan says by now, and nobody has done anything with."""
    known = answers.value(connection, "select to_regclass(%s) is not null", [f"{SCHEMA}.given"])
    if plan.rows.rest or not is_open(plan, schema) or not known:
        return []
    return [
        (source.table, f"{told} Their rows wait.")
        for source, kind in plan.sources(schema)
        if source.table in schema.tables
        for told in _Teller(connection, plan, added).tell(source, kind)
    ]


class _Teller:
    def __init__(self, connection: psycopg.Connection[Any], plan: Plan, added: Sequence[Line]) -> None:
        self._connection = connection
        self._plan = plan
        self._added = {(kind, key) for kind, key, _ in added}

    def tell(self, source: Source, kind: str) -> Iterator[str]:
        rows = self._plan.rows
        if kind == "users" and rows.to == "column":
            yield from self._missing(source, rows.column, f"{rows.column} says of no organization")
            yield from self._unnamed(source)
        elif kind == "users" and rows.to == "csv":
            yield from self._unlisted(source, "owners", rows.csv)
        elif source.clerk_id:
            yield from self._missing(source, source.clerk_id, f"{source.clerk_id} holds no Clerk id")
        elif source.csv or source.email:
            yield from self._unlisted(source, kind, source.csv or "the mirror, by " + source.email)

    def _missing(self, source: Source, column: str, told: str) -> Iterator[str]:
        query = f"select count(*) from {source.table} where {column} is null"
        if none := answers.value(self._connection, query):
            yield f"Of {none} rows {told}: fill it."

    def _unnamed(self, source: Source) -> Iterator[str]:
        found = self._not_given("values", value_of(self._plan.rows, "t"), source)
        if found:
            where = self._plan.rows.csv or "[rows.organizations]"
            yield (
                f"No organization is named for {self._plan.rows.column} {_some(found)}: name it in {where}, or have "
                "`tenantry adopt organizations` make it in Clerk; then run `tenantry adopt apply`."
            )

    def _unlisted(self, source: Source, kind: str, where: str) -> Iterator[str]:
        if found := self._not_given(kind, f"t.{source.key}::text", source):
            yield f"{source.key} {_some(found)} is not in {where}: add it, then run `tenantry adopt apply`."

    def _not_given(self, kind: str, value: str, source: Source) -> list[str]:
        query = (
            f"select distinct {value} from {source.table} as t where {value} is not null and not exists"
            f" (select from {SCHEMA}.given as g where g.kind = {literal(kind)} and g.key = {value}) order by 1"
        )
        return [each for each in answers.texts(self._connection, query) if (kind, each) not in self._added]


def tell_added(added: Sequence[Line]) -> Iterator[str]:
    """What is new in the plan of a move that has begun."""
    if added:
        named = _some(
            [f"{key} ({clerk_id})" if kind != "rest" else f"the rest ({clerk_id})" for kind, key, clerk_id in added]
        )
        yield f"New in the plan: {named}. `tenantry adopt apply` takes it up."


def _some(found: list[str]) -> str:
    shown = ", ".join(found[:_SHOWN])
    return shown if len(found) <= _SHOWN else f"{shown} and {len(found) - _SHOWN} more"
