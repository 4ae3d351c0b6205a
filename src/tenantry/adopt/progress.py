"""How far a move is, and how fast: two looks at its record, a moment apart."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenantry.adopt import answers, move, record
from tenantry.adopt.names import literal
from tenantry.adopt.record import Entry
from tenantry.adopt.step import Step

if TYPE_CHECKING:
    import psycopg

MOMENT = 1.0  # seconds between the looks: some twenty batches


@dataclass(frozen=True, slots=True)
class Batches:
    """A step in batches that has begun: `done` of its `pages`; what it does in a second, where it does something."""

    done: int
    pages: int
    rows_per_second: float = 0.0
    pages_per_second: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """None where nothing happens."""
        return (self.pages - self.done) / self.pages_per_second if self.pages_per_second else None


@dataclass(frozen=True, slots=True)
class Progress:
    """`at_work`: whether somebody makes the move just now. `batches` are those of the step that is not done yet."""

    entries: Sequence[Entry]
    at_work: bool = False
    batches: Batches | None = None

    @property
    def next(self) -> Entry | None:
        """The step that is under way, or would be."""
        return _next(self.entries)


def read(connection: psycopg.Connection[Any], seconds: float = MOMENT) -> Progress:
    """The move as it is; where batches run, as it is after so many seconds. Without entries where none has begun."""
    entries, began = move.read_progress(connection), time.monotonic()
    at_work = _is_at_work(connection)
    entry = _next(entries)
    if entry is None or entry.step.how != "batches" or entry.state != "running":
        return Progress(entries, at_work)
    sizes = _sizes(connection, entry.step)
    done = _done(entry, sizes)
    if not at_work:
        return Progress(entries, at_work, Batches(done, sum(sizes)))
    time.sleep(seconds)
    entries, passed = move.read_progress(connection), time.monotonic() - began
    later = next((each for each in entries if each.position == entry.position), entry)
    now = sum(sizes) if later.state == "done" else _done(later, sizes)
    speeds = (later.rows - entry.rows) / passed, (now - done) / passed
    return Progress(entries, _is_at_work(connection), Batches(now, sum(sizes), *speeds))


def _next(entries: Sequence[Entry]) -> Entry | None:
    return next((entry for entry in entries if entry.state != "done"), None)


def _is_at_work(connection: psycopg.Connection[Any]) -> bool:
    query = """
        select exists (select from pg_locks where locktype = 'advisory' and granted and objid = %s and classid = 0
          and database = (select oid from pg_database where datname = current_database()))"""
    return bool(answers.value(connection, query, [record.LOCK]))


def _sizes(connection: psycopg.Connection[Any], step: Step) -> list[int]:
    """Of the step's tables, in pages; 0 of one that is gone."""
    size = "coalesce(pg_relation_size(to_regclass({})), 0) / current_setting('block_size')::bigint"
    query = "select " + ", ".join(size.format(literal(leaf)) for leaf in step.leaves)
    row = connection.execute(query.encode()).fetchone() if step.leaves else ()
    return [int(pages) for pages in row or ()]


def _done(entry: Entry, sizes: Sequence[int]) -> int:
    """Pages that are behind it."""
    leaves = entry.step.leaves
    at = leaves.index(entry.leaf) if entry.leaf in leaves else 0
    return sum(sizes[:at]) + min(entry.page, sizes[at] if sizes else 0)
