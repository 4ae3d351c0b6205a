"""What comes while a move is under way: organizations that are added to its plan, and owners who go to another one.

Until isolation whose rows are whose follows from the plan and the app's tables as they are now. What is added is
written down before anything is done with it, and what has to be done for it is found out from the tables: so a run that
is broken off anywhere is followed by one that goes on. Rows are settled by the steps of the backfill, once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tenantry.adopt import answers, catalog, owners, preflight, record, runner, steps
from tenantry.adopt.catalog import Schema
from tenantry.adopt.names import literal
from tenantry.adopt.plan import Plan, Source, list_differences
from tenantry.adopt.runner import Pace, Watcher
from tenantry.adopt.step import Known, Step
from tenantry.adopt.waiting import is_open
from tenantry.errors import AdoptionRefused

if TYPE_CHECKING:
    import psycopg

_AT_ONCE = 1_000
_GONE = f"former is not null and coalesce(tenant_id, {owners.rest()}) is not null"  # who has somewhere to go
_PASSES = 3  # over all rows, before isolation: somebody may go elsewhere meanwhile


def require_same(connection: psycopg.Connection[Any], plan: Plan) -> record.Move:
    """The move that has begun. Raises AdoptionRefused where the plan has come to say something else."""
    move = record.read_move(connection)
    if move is None:
        raise AdoptionRefused("No move has begun here.", hint="See `tenantry adopt plan`.")
    if differing := list_differences(move.plan, plan):
        raise AdoptionRefused(
            "adopt.toml is not the plan that has begun here.",
            detail="\n".join(f"- {section} is not as it was." for section in differing),
            hint="Put it back as it was, or `tenantry adopt undo` first. Organizations may be added.",
        )
    return move


def examine(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> tuple[record.Move, Known]:
    """The move that has begun, and what its plan stands for by now. Raises AdoptionRefused where something that it
    began with is not as it was, or what was added cannot be."""
    move = require_same(connection, plan)
    if not is_open(plan, schema):
        return move, move.known
    return move, preflight.examine_added(connection, plan, schema, move)


def take_up(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> None:
    """Writes down what has been added to the plan of a move that has begun."""
    move, known = examine(connection, plan, schema)
    if is_open(plan, schema) and (plan, known) != (move.plan, move.known):
        record.add(connection, plan, known, known.given[len(move.known.given) :])


def settle(connection: psycopg.Connection[Any], pace: Pace, watcher: Watcher, *, passes: int = 1) -> None:
    """Gives the rows that waited their tenant, where there are such. The backfill has been done before."""
    for _ in range(passes):
        move, schema = record.read_move(connection), catalog.read(connection)
        if move is None or not is_open(move.plan, schema):
            return
        work = _Work(connection, move.plan, schema, move.known)
        if not work.is_due():
            return
        seen = work.look()
        record.reopen(connection, "backfill")
        runner.outlast(connection, pace)  # who knows less may be writing rows yet
        runner.apply(connection, record.read(connection), "backfill", pace, watcher)
        work.forget(seen, pace)


def settle_all(connection: psycopg.Connection[Any], pace: Pace, watcher: Watcher) -> None:
    """Before rows are hidden: as often as it takes, within reason."""
    settle(connection, pace, watcher, passes=_PASSES)


class _Work:
    """What is to be done for owners who came or went."""

    def __init__(self, connection: psycopg.Connection[Any], plan: Plan, schema: Schema, known: Known) -> None:
        self._connection = connection
        self._plan = plan
        self._moved = [each for each in steps.list_transitions(plan, schema, known) if each.column.is_new]
        self._sources = plan.sources(schema)

    def is_due(self) -> bool:
        return any(self._is_true(query) for query in self._queries())

    def _queries(self) -> Iterator[str]:
        yield owners.is_rest_new()
        for source, kind in self._sources:
            yield f"select exists (select from {owners.mapping(kind)} where {_GONE})"
            if source.table:
                yield self._placed_since(source, kind)
        yield from (each.left_behind() for each in self._moved if each.decision.tenant != "organization")

    def _placed_since(self, source: Source, kind: str) -> str:
        joined = f"{source.table} as t left join {owners.mapping(kind)} as m on m.key = t.{source.key}"
        placed = f"{owners.place(self._plan, source, kind, 't')} is not null"
        return f"select exists (select from {joined} where m.tenant_id is null and {placed})"

    def _is_true(self, query: str) -> bool:
        return bool(answers.value(self._connection, query))

    def look(self) -> str:
        """The transactions whose changes will have been settled."""
        return str(answers.value(self._connection, "select pg_current_snapshot()::text"))

    def forget(self, seen: str, pace: Pace) -> None:
        """Where owners came from, as far as their rows have followed."""
        for _, kind in self._sources:
            kept = owners.mapping(kind)
            settled = f"{_GONE} and pg_visible_in_snapshot(changed, {literal(seen)})"
            some = f"select key from {kept} where {settled} limit {_AT_ONCE}"
            sql = f"update {kept} set former = null where key in ({some}) and {settled}"
            step = Step("backfill", f"forget who has settled in {kept}", kept, "together", (sql,), lock="ROW EXCLUSIVE")
            while self._is_true(f"select exists (select from {kept} where {settled})"):
                runner.briefly(self._connection, step, pace)
