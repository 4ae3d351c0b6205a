"""A step of a move: its SQL, what undoes it, and what it locks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["expand", "backfill", "constrain", "isolate", "contract"]
PHASES: tuple[Phase, ...] = ("expand", "backfill", "constrain", "isolate", "contract")

LEAF, FIRST, LAST = "{leaf}", "{first}", "{last}"  # in the SQL of a batch: the table, and the pages from and to
PAGES = f"t.ctid >= '({FIRST},0)'::tid and t.ctid < '({LAST},0)'::tid"

Line = tuple[str, str, str]  # of a list: kind, key, Clerk's id


@dataclass(frozen=True, slots=True)
class Step:
    """`how`: together   all statements in one transaction, which waits for its locks only a moment at a time
               alone      outside a transaction: `index` is what a broken attempt leaves behind, to be dropped first
               batches    once for each range of pages of the `leaves`, a transaction each
               check      a query whose count must be 0, else `problem` says why

    `lock` is the strongest lock, `guards` are the tables whose vacuum is kept off meanwhile, `rows` an estimate of what
    it reads or writes.
    """

    phase: Phase
    name: str
    table: str
    how: Literal["together", "alone", "batches", "check"]
    sql: tuple[str, ...]
    undo: tuple[str, ...] = ()
    lock: str = ""
    guards: tuple[str, ...] = ()
    rows: int = 0
    leaves: tuple[str, ...] = ()
    index: str = ""
    undo_alone: bool = False
    problem: str = ""
    quiet: bool = False  # the app's own triggers do not run

    @property
    def seconds(self) -> float:
        """About how long it takes, on a small machine."""
        return self.rows / {"batches": 50_000, "alone": 500_000, "check": 1_000_000}.get(self.how, 2_000_000)


@dataclass(frozen=True, slots=True)
class Known:
    """What a plan names and the steps write out: our ids by Clerk's, and lists to load."""

    tenants: Mapping[str, str] = field(default_factory=dict)
    given: tuple[Line, ...] = ()
