"""The record of a move in the database: its steps as they were planned, how far each is, and the rows of before.

It is kept in the schema `tenantry_adopt`, which belongs to the owner of the app's tables: whoever could write the
record could have that owner run any SQL, so nobody else may.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tenantry.adopt import answers, owners
from tenantry.adopt import plan as plans
from tenantry.adopt.catalog import SCHEMA
from tenantry.adopt.identity import Identity
from tenantry.adopt.plan import Plan
from tenantry.adopt.step import PHASES, Known, Line, Phase, Step
from tenantry.errors import AdoptionRefused

if TYPE_CHECKING:
    import psycopg

LOCK = 0x7E4A1A  # a number of our own: advisory locks are shared by everybody in a database
_PAUSE = 0.1  # seconds until somebody who waits for it asks again

MAKE = f"""
create schema if not exists {SCHEMA};
create table if not exists {SCHEMA}.moves (
  singleton boolean primary key default true check (singleton),
  plan      jsonb not null,                    -- that the steps are of, with what was added to it since
  known     jsonb not null,                    -- what the plan's names and files stood for
  before    jsonb not null,                    -- by table: columns, rows and checksum when it began
  tables    jsonb not null,                    -- by table: what tells it from others, whatever it is called
  began_at  timestamptz not null default now()
);
create table if not exists {SCHEMA}.steps (
  position integer primary key,
  step     jsonb not null,
  state    text not null default 'pending' check (state in ('pending', 'running', 'done')),
  leaf     text,                               -- of batches: the table they are in
  page     bigint not null default 0,          -- ... and the page the next one begins with
  rows     bigint not null default 0,
  held_ms  double precision,                   -- how long its longest transaction held its locks
  ended_at timestamptz
);"""

_ENTRIES = f"select position, step, state, leaf, page, rows, held_ms from {SCHEMA}.steps"


@dataclass(frozen=True, slots=True)
class Move:
    """`before` is by table the columns, rows and checksum when it began, the last two null where nobody was to read
    them; `tables` by name what they are."""

    plan: Plan
    known: Known
    before: Mapping[str, Any]
    tables: Mapping[str, Identity]


@dataclass(frozen=True, slots=True)
class Entry:
    """A step as the record has it."""

    position: int
    step: Step
    state: str
    leaf: str | None = None
    page: int = 0
    rows: int = 0
    held_ms: float | None = None


def tell(move: Move) -> dict[str, str]:
    """What is written down of a move, by column; objects are JSON."""
    tables = {name: asdict(identity) for name, identity in move.tables.items()}
    objects = {"plan": asdict(move.plan), "known": asdict(move.known), "before": dict(move.before), "tables": tables}
    return {name: json.dumps(told) for name, told in objects.items()}


def begin(connection: psycopg.Connection[Any], move: Move, steps: Sequence[Step]) -> None:
    """Writes down what is going to be done, in one transaction."""
    with connection.transaction():
        connection.execute(MAKE.encode())
        told = tell(move)
        insert = f"insert into {SCHEMA}.moves ({', '.join(told)}) values ({', '.join(['%s::jsonb'] * len(told))})"
        connection.execute(insert.encode(), list(told.values()))
        insert = f"insert into {SCHEMA}.steps (position, step) values (%s, %s::jsonb)"
        rows = [(n, json.dumps(asdict(step))) for n, step in enumerate(steps, 1)]
        connection.cursor().executemany(insert.encode(), rows)


def read(connection: psycopg.Connection[Any]) -> list[Entry]:
    """The steps of the move that has begun here; none where none has."""
    if not exists(connection):
        return []
    rows = connection.execute(f"{_ENTRIES} order by position".encode()).fetchall()
    return [_entry(*row) for row in rows]


def read_entry(connection: psycopg.Connection[Any], position: int) -> Entry:
    """One step of the move that has begun here."""
    row = connection.execute(f"{_ENTRIES} where position = %s".encode(), [position]).fetchone()
    if row is None:
        raise LookupError(f"no step {position}")
    return _entry(*row)


def read_move(connection: psycopg.Connection[Any]) -> Move | None:
    """What the move is of; None where none has begun."""
    if not exists(connection):
        return None
    row = connection.execute(f"select plan, known, before, tables from {SCHEMA}.moves".encode()).fetchone()
    if row is None:
        return None
    plan, known, before, tables = row
    given = Known(known["tenants"], tuple(tuple(line) for line in known["given"]))
    identities = {name: Identity(**_tupled(told)) for name, told in tables.items()}
    return Move(plans.restore(plan), given, before, identities)


def add(connection: psycopg.Connection[Any], plan: Plan, known: Known, lines: Sequence[Line]) -> None:
    """Writes down what has been added to the plan, in one transaction; triggers know the `lines` from then on."""
    with connection.transaction():
        values = [json.dumps(asdict(each)) for each in (plan, known)]
        connection.execute(f"update {SCHEMA}.moves set plan = %s::jsonb, known = %s::jsonb".encode(), values)
        for statement in owners.give(lines):
            connection.execute(statement.encode())


def reopen(connection: psycopg.Connection[Any], phase: Phase) -> None:
    """Has the steps of a phase done again, from the beginning."""
    query = f"update {SCHEMA}.steps set state = 'pending', leaf = null, page = 0 where step ->> 'phase' = %s"
    connection.execute(query.encode(), [phase])


def exists(connection: psycopg.Connection[Any]) -> bool:
    """Whether a move has begun; anybody may ask, also who may not look into the record."""
    query = """select exists (select from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
      where n.nspname = %s and c.relname = 'steps')"""
    return bool(answers.value(connection, query, [SCHEMA]))


def owner(connection: psycopg.Connection[Any]) -> str | None:
    """Who makes the move that has begun; None where none has."""
    query = "select quote_ident(pg_get_userbyid(nspowner)) from pg_namespace where nspname = %s"
    name = answers.value(connection, query, [SCHEMA])
    return str(name) if name and exists(connection) else None


def note(connection: psycopg.Connection[Any], position: int, state: str, held_ms: float | None = None) -> None:
    query = f"""update {SCHEMA}.steps set state = %s, held_ms = greatest(held_ms, %s), ended_at = clock_timestamp(),
      leaf = case when %s = 'pending' then null else leaf end, page = case when %s = 'pending' then 0 else page end
      where position = %s"""
    connection.execute(query.encode(), [state, held_ms, state, state, position])


def note_batch(
    connection: psycopg.Connection[Any], position: int, leaf: str, page: int, rows: int, held_ms: float
) -> None:
    query = f"""update {SCHEMA}.steps set state = 'running', leaf = %s, page = %s, rows = rows + %s,
      held_ms = greatest(held_ms, %s) where position = %s"""
    connection.execute(query.encode(), [leaf, page, rows, held_ms, position])


def flush(connection: psycopg.Connection[Any]) -> None:
    """Waits until all that was done is as safe as the server's commits are by default."""
    with connection.transaction():
        connection.execute("set local synchronous_commit to default")
        connection.execute(f"update {SCHEMA}.moves set plan = plan".encode())


def forget(connection: psycopg.Connection[Any]) -> None:
    """Leaves nothing behind: all is undone, or was of tables that are gone."""
    connection.execute(f"drop schema {SCHEMA} cascade".encode())


def reached(entries: Sequence[Entry]) -> Phase | None:
    """The last phase all of whose steps are done, and all of those before; None where none has begun."""
    found: Phase | None = None
    for phase in PHASES if entries else ():
        if not all(entry.state == "done" for entry in entries if entry.step.phase == phase):
            return found
        found = phase
    return found


@contextmanager
def locked(connection: psycopg.Connection[Any], patience: float = 15) -> Iterator[None]:
    """One move at a time. A process that was killed holds the lock until its server notices: hence some patience.

    It asks again and again: who waited in a statement would hold a snapshot, for which the other's CREATE INDEX
    CONCURRENTLY would wait in turn.
    """
    give_up = time.monotonic() + patience
    while not _takes_lock(connection):
        if time.monotonic() > give_up:
            raise AdoptionRefused("Another `tenantry adopt` is at work on this database.", hint="Wait for it to end.")
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("select pg_advisory_unlock(%s)", [LOCK])


def _entry(position: int, step: dict[str, Any], *rest: Any) -> Entry:
    return Entry(position, _step(step), *rest)


def _takes_lock(connection: psycopg.Connection[Any]) -> bool:
    return bool(answers.value(connection, "select pg_try_advisory_lock(%s)", [LOCK]))


def _tupled(told: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where we have tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}


def _step(told: dict[str, Any]) -> Step:
    parts = tuple(_step(part) for part in told.get("parts", ()))
    return Step(**{**_tupled(told), "parts": parts})
