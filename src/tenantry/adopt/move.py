"""A move from plan to done: what `tenantry adopt` calls, on one connection that has been opened for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from tenantry import schema as schemas
from tenantry.adopt import (
    arrivals,
    catalog,
    handmade,
    identity,
    news,
    obstacles,
    partitions,
    preflight,
    record,
    report,
    runner,
    steps,
    verify,
    waiting,
)
from tenantry.adopt.catalog import Schema
from tenantry.adopt.plan import Plan
from tenantry.adopt.record import Entry, Move
from tenantry.adopt.runner import Pace, Watcher
from tenantry.adopt.step import Phase
from tenantry.errors import AdoptionRefused

if TYPE_CHECKING:
    import psycopg

_HIDING: tuple[Phase, ...] = ("isolate", "contract")


def read_schema(connection: psycopg.Connection[Any]) -> Schema:
    """The catalog, of a database that has this release's schema. Raises SchemaError where it has not."""
    schemas.require(connection)
    return catalog.read(connection)


def preview(connection: psycopg.Connection[Any], plan: Plan) -> Sequence[Entry]:
    """The steps of the move that has begun, else those it would have. Changes nothing."""
    with as_owner(connection, plan) as schema:
        return foresee(connection, plan, schema)[1]


def foresee(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> tuple[Move, Sequence[Entry]]:
    """The move that has begun, else the one that would; as the owner of the tables. Changes nothing."""
    if record.exists(connection):
        begun, _ = arrivals.examine(connection, plan, schema)
        return begun, record.read(connection)
    known = preflight.examine(connection, plan, schema)
    built = steps.build(plan, schema, known)
    would = Move(plan, known, {}, identity.identify(connection, plan, schema))
    return would, [Entry(n, step, "pending") for n, step in enumerate(built, 1)]


def list_notices(connection: psycopg.Connection[Any], plan: Plan) -> list[str]:
    """What somebody has to see to before a move begins, or while it is under way, a sentence each."""
    if record.exists(connection):
        with as_owner(connection, plan) as schema:
            begun, known = arrivals.examine(connection, plan, schema)
            added = known.given[len(begun.known.given) :]
            unnamed = waiting.list_unnamed(connection, plan, schema, added)
            told = [*waiting.tell_added(added), *(f"{table}: {told}" for table, told in unnamed)]
        return [*list_news(connection), *told]
    return [*obstacles.list_notices(connection, plan, read_schema(connection)), *handmade.list_notices(plan)]


def list_news(connection: psycopg.Connection[Any]) -> list[str]:
    """What has come into the database since the move began, and its plan does not know; nothing once all is done."""
    owner = record.owner(connection)
    if owner is None:
        return []
    with _acting_as(connection, owner):
        move = record.read_move(connection)
        if move is None or all(entry.state == "done" for entry in record.read(connection)):
            return []
        return [each.sentence for each in news.find(catalog.read(connection), move.tables)]


def list_waiting(connection: psycopg.Connection[Any]) -> list[str]:
    """Whose rows wait, in the move that has begun, for somebody to say where they go; a sentence each."""
    owner = record.owner(connection)
    if owner is None:
        return []
    with _acting_as(connection, owner):
        move = record.read_move(connection)
        found = waiting.list_unnamed(connection, move.plan, catalog.read(connection)) if move else []
    return [f"{table}: {told}" for table, told in found]


def apply(
    connection: psycopg.Connection[Any],
    plan: Plan,
    last: Phase,
    pace: Pace,
    watcher: Watcher,
    *,
    differing: bool = False,
    checksums: bool = True,
    told: verify.Told | None = None,
) -> None:
    """Begins a move, or goes on with it, up to and with a phase. `differing`: rows may go behind isolation with another
    tenant than their owner. `checksums`: where it begins all rows are read, of which `told` is told. Raises
    AdoptionRefused, before anything is changed where the plan cannot be carried out."""
    with as_owner(connection, plan), record.locked(connection):
        schema = catalog.read(connection)  # as whoever had the lock before left it
        if record.exists(connection):
            arrivals.take_up(connection, plan, schema)
            _require_unchanged(connection)
        else:
            _begin(connection, plan, schema, told or _tell_nobody, checksums=checksums)
        if last != "expand":
            runner.apply(connection, record.read(connection), "backfill", pace, watcher)
            arrivals.settle(connection, pace, watcher)
        if last in _HIDING and any(e.step.phase == "isolate" and e.state != "done" for e in record.read(connection)):
            runner.apply(connection, record.read(connection), "constrain", pace, watcher)
            arrivals.settle_all(connection, pace, watcher)
            _examine_hiding(connection, plan, differing=differing)
        if last == "contract":
            runner.apply(connection, record.read(connection), "isolate", pace, watcher)
            _examine_contract(connection)
        runner.apply(connection, record.read(connection), last, pace, watcher)
        partitions.isolate_late(connection, record.read(connection), pace)


def _begin(
    connection: psycopg.Connection[Any], plan: Plan, schema: Schema, told: verify.Told, *, checksums: bool
) -> None:
    known = preflight.examine(connection, plan, schema)
    built = steps.build(plan, schema, known)
    tables = identity.identify(connection, plan, schema)  # before the rows are read, which takes its time
    before = verify.measure(connection, plan, schema, told, checksums=checksums)
    record.begin(connection, Move(plan, known, before, tables), built)


def _examine_hiding(connection: psycopg.Connection[Any], plan: Plan, *, differing: bool) -> None:
    """What must hold before isolation hides rows. Raises AdoptionRefused."""
    schema = catalog.read(connection)
    if move := record.read_move(connection):
        news.require_none(schema, move.tables)
    preflight.examine_rows(connection, plan, schema, differing=differing)


def _examine_contract(connection: psycopg.Connection[Any]) -> None:
    """What must hold before keys go for good. Raises AdoptionRefused."""
    entries = [entry for entry in record.read(connection) if entry.step.phase == "contract"]
    left = [entry.step for entry in entries if entry.state != "done"]
    preflight.examine_dependants(connection, left, begun=len(left) < len(entries))


def undo(connection: psycopg.Connection[Any], first: Phase, pace: Pace, watcher: Watcher) -> None:
    """Undoes a move back to before a phase; when nothing is left of it, its record goes too."""
    nothing = AdoptionRefused("No move has begun here: there is nothing to undo.")
    owner = record.owner(connection)
    if owner is None:
        raise nothing
    with _acting_as(connection, owner), record.locked(connection):
        move = record.read_move(connection)
        if move is None:  # whoever had the lock before has undone it
            raise nothing
        tables, entries = move.tables, record.read(connection)
        runner.require_undoable(entries)
        identity.require_names(connection, tables)
        schema = catalog.read(connection)
        if first != "isolate":
            news.require_free(schema, tables, [entry.step for entry in entries])
        report.switch_off(connection, schema, pace)  # it depends on the columns
        runner.undo(connection, entries, first, pace, watcher)
        if all(entry.state == "pending" for entry in record.read(connection)):
            partitions.let_go(connection, tables, pace)
            record.forget(connection)


def list_kept(connection: psycopg.Connection[Any], first: Phase) -> list[str]:
    """What would stay if the move were undone back to before a phase, a sentence each."""
    owner = record.owner(connection)
    if owner is None:
        return []
    with _acting_as(connection, owner):
        move = record.read_move(connection)
        undone = [entry.step for entry in runner.list_undoable(record.read(connection), first)]
        return list(handmade.tell_kept(move.plan, undone)) if move else []


def read_progress(connection: psycopg.Connection[Any]) -> Sequence[Entry]:
    """The steps of the move that has begun, as far as each is; none where none has."""
    owner = record.owner(connection)
    if owner is None:
        return []
    with _acting_as(connection, owner):
        return record.read(connection)


def check(
    connection: psycopg.Connection[Any], plan: Plan, *, still: bool = False, told: verify.Told | None = None
) -> verify.Report:
    """What is to be said of the rows as they are now: see `verify`."""
    with as_owner(connection, plan) as schema:
        if record.exists(connection):
            plan = arrivals.require_same(connection, plan).plan  # as far as it has been taken up
            _require_unchanged(connection, gone=True)
        return verify.verify(connection, plan, schema, still=still, told=told or _tell_nobody)


def _require_unchanged(connection: psycopg.Connection[Any], *, gone: bool = False) -> None:
    """What the steps name must still be called so, while there is something left to do. `gone`: or be gone."""
    entries, move = record.read(connection), record.read_move(connection)
    if move is None or all(entry.state == "done" for entry in entries):
        return
    identity.require_names(connection, move.tables)
    if not gone:
        identity.require_tables(connection, move.tables)
    if not _is_final(entries):
        building = record.reached(entries) in (None, "expand", "backfill")
        identity.require_columns(connection, move.tables, indexed=building)
        given = {e.step.table for e in entries if e.state == "done" and e.step.phase == "expand"}
        identity.require_tenants(connection, {name: each for name, each in move.tables.items() if name in given})


def _is_final(entries: Sequence[Entry]) -> bool:
    """Whether contract has begun."""
    return any(entry.state != "pending" and entry.step.phase == "contract" for entry in entries)


def _tell_nobody(table: str, done: int, total: int) -> None:
    pass


@contextmanager
def as_owner(connection: psycopg.Connection[Any], plan: Plan) -> Iterator[Schema]:
    """The catalog as the owner of the tables sees it, whose session this is for the time."""
    begun = record.owner(connection)
    with _acting_as(connection, begun) if begun else nullcontext():
        owner = preflight.find_owner(connection, plan, read_schema(connection))
    with _acting_as(connection, owner):
        yield catalog.read(connection)


@contextmanager
def _acting_as(connection: psycopg.Connection[Any], owner: str) -> Iterator[None]:
    runner.prepare(connection, owner)
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("reset role")
