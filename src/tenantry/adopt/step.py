"""A step of a move: its SQL, what undoes it, and what it locks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tenantry.adopt.names import literal, quote, shorten, split

Phase = Literal["expand", "backfill", "constrain", "isolate", "contract"]
PHASES: tuple[Phase, ...] = ("expand", "backfill", "constrain", "isolate", "contract")

LEAF, FIRST, LAST = "{leaf}", "{first}", "{last}"  # in the SQL of a batch: the table, and the pages from and to
SPACE, INDEX = "{space}", "{index}"  # in that of a partition: its schema, and an index that is to be made
PAGES = f"t.ctid >= '({FIRST},0)'::tid and t.ctid < '({LAST},0)'::tid"

Line = tuple[str, str, str]  # of a list: kind, key, Clerk's id


@dataclass(frozen=True, slots=True)
class Step:
    """`how`: together   all statements in one transaction, which waits for its locks only a moment at a time
               alone      outside a transaction: `index` is what a broken attempt leaves behind, to be dropped first
               batches    once for each range of pages of the `leaves`, a transaction each
               check      a query whose count must be 0, else `problem` says why
               partitions `parts` for each partition that `unless` finds nothing of, save `leaves`, which have steps of
                          their own; with an `index` of the whole table for those too, where it is not whole without

    `lock` is the strongest lock, `guards` are the tables whose vacuum is kept off meanwhile, `rows` an estimate of what
    it reads or writes. `drops` are a table and its key, foreign key or index that goes.
    """

    phase: Phase
    name: str
    table: str
    how: Literal["together", "alone", "batches", "check", "partitions"]
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
    parts: tuple[Step, ...] = ()
    unless: str = ""
    drops: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """About how long it takes, on a small machine."""
        return self.rows / {"batches": 50_000, "alone": 500_000, "check": 1_000_000}.get(self.how, 2_000_000)

    def of_leaf(self, leaf: str, whole: str = "") -> Step:
        """This step, written for any partition, as that of one; `whole` is the index of all that it belongs to."""
        space, name = split(leaf)
        index = quote(shorten(name, split(whole)[1])) if whole else ""

        def write(text: str) -> str:
            text = text.replace(literal(f"{SPACE}.{INDEX}"), literal(f"{space}.{index}"))
            text = text.replace(literal(LEAF), literal(leaf)).replace(LEAF, leaf)
            return text.replace(SPACE, space).replace(INDEX, index)

        return replace(
            self,
            name=write(self.name),
            table=write(self.table),
            sql=tuple(map(write, self.sql)),
            undo=tuple(map(write, self.undo)),
            guards=tuple(map(write, self.guards)),
            index=write(self.index),
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What a plan names and the steps write out: our ids by Clerk's, and lists to load."""

    tenants: Mapping[str, str] = field(default_factory=dict)
    given: tuple[Line, ...] = ()
