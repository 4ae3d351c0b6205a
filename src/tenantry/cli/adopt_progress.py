"""What `tenantry adopt` shows of steps: as they are done, how far they are, and what they will take."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from tenantry.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

    from tenantry.adopt.progress import Batches, Progress
    from tenantry.adopt.record import Entry
    from tenantry.adopt.step import Step

_LONGEST = 2_000  # characters of a statement that are shown
_WIDE = 200  # columns where there is no terminal
_LOCKS = {
    "ACCESS EXCLUSIVE": "nobody reads or writes, for milliseconds",
    "SHARE ROW EXCLUSIVE": "nobody writes, for milliseconds",
    "SHARE": "nobody writes, for milliseconds",
}


# --- steps as they are done -------------------------------------------------------------------------------------------


@contextmanager
def watching(*, as_json: bool) -> Iterator[Watcher]:
    """Each step with its SQL and then what it took, on standard output; as JSON a line for each when it is done."""
    watcher = Telling() if as_json else Showing()
    try:
        yield watcher
    finally:
        watcher.close()


@dataclass
class Watcher:
    """Adds up what is done."""

    steps: int = 0
    rows: int = 0
    longest: Entry | None = None  # of those whose locks the app feels, that which held them longest
    began: float = field(default_factory=time.monotonic)
    step_began: float = 0.0

    def read(self, table: str, done: int, total: int) -> None:
        """Of the checksums, which are read before the first step, and by `verify`."""

    def begin(self, entry: Entry, total: int, *, undo: bool) -> None:
        self.step_began = time.monotonic()

    def progress(self, entry: Entry | None, done: int, total: int) -> None:
        pass

    def end(self, entry: Entry, *, undo: bool) -> None:
        self.steps += 1
        self.rows += 0 if undo else entry.rows
        felt = entry.held_ms if entry.step.lock in _LOCKS and not undo else None
        if felt is not None and felt > (self.longest.held_ms or 0 if self.longest else 0):
            self.longest = entry

    def close(self) -> None:
        pass

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class Telling(Watcher):
    """For machines."""

    def end(self, entry: Entry, *, undo: bool) -> None:
        super().end(entry, undo=undo)
        told = {"position": entry.position, **brief(entry), "seconds": time.monotonic() - self.step_began}
        typer.echo(json.dumps(told | {"undone": undo}))


class Showing(Watcher):
    """For people; batches have a bar on a terminal's error stream."""

    def __init__(self) -> None:
        from rich.console import Console

        super().__init__()
        self._out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self._bars: Bars | None = None
        self._bar: Any = None
        self._table = ""

    def read(self, table: str, done: int, total: int) -> None:
        if table != self._table:
            self.close()
            self._table = table
            self._start(f"reading {table}")
        self.progress(None, done, total)
        if done >= total:
            self.close()

    def begin(self, entry: Entry, total: int, *, undo: bool) -> None:
        super().begin(entry, total, undo=undo)
        step = entry.step
        verb = "undo " if undo else ""
        print_line(self._out, printable(f"[{entry.position}/{total}] {verb}{step.phase}: {step.name}"), "bold")
        for statement in step.undo if undo else step.sql:
            print_line(self._out, f"{_cut(statement)};", "dim", indent=4)
        if step.how == "batches" and not undo:
            self._start(step.table, step.rows)

    def _start(self, what: str, rows: int = 0) -> None:
        if sys.stderr.isatty():
            self._bars = _make_bars()
            self._bars.start()
            self._bar = self._bars.add_task(printable(what), total=None, rows=rows)

    def progress(self, entry: Entry | None, done: int, total: int) -> None:
        if self._bars is not None:
            self._bars.update(self._bar, completed=done, total=total)

    def end(self, entry: Entry, *, undo: bool) -> None:
        super().end(entry, undo=undo)
        self.close()
        print_line(self._out, outcome(entry, time.monotonic() - self.step_began, undo=undo), "green", indent=4)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def print_line(out: Console, text: str, style: str, *, indent: int = 0) -> None:
    """Wrapped, on a terminal, within its indent."""
    from rich.padding import Padding
    from rich.text import Text

    if out.is_terminal:
        out.print(Padding(Text(text, style), (0, 0, 0, indent)))
    else:
        typer.echo(" " * indent + text.replace("\n", "\n" + " " * indent))


def outcome(entry: Entry, seconds: float, *, undo: bool) -> str:
    """What a step took, in a line."""
    told = ["undone" if undo else "done"]
    told += [f"{entry.rows:,} rows"] if entry.step.how == "batches" and not undo else []
    told += [f"{seconds:.2f} s"]
    told += [f"held its locks for {entry.held_ms:.0f} ms"] if entry.held_ms is not None and not undo else []
    return ", ".join(told)


def summary(watcher: Watcher) -> str:
    """What a whole run took, in a line."""
    told = f"{watcher.steps} steps, {watcher.rows:,} rows, {watcher.seconds:.1f} s"
    held = watcher.longest
    return told + (f"; the longest lock {held.held_ms:.0f} ms, to {held.step.name}" if held else "")


def _cut(statement: str) -> str:
    """Lists of what a plan's files hold may be long."""
    left = len(statement) - _LONGEST
    return statement if left <= 0 else f"{statement[:_LONGEST]} ... {left:,} characters more, which --sql prints"


def _make_bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.progress import Task as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        """In rows, which are about as many in each page."""

        def render(self, task: Bar) -> Text:
            rate = (task.speed or 0) * task.fields["rows"] / (task.total or 1)
            return Text(f"about {rate:,.0f} rows/s" if task.fields["rows"] else "")

    columns = (
        TextColumn("    {task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f} %"),
        Rate(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    return Bars(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


# --- how far it is ----------------------------------------------------------------------------------------------------


def brief(entry: Entry) -> dict[str, Any]:
    told = {"phase": entry.step.phase, "name": entry.step.name, "table": entry.step.table, "state": entry.state}
    return told | {"rows": entry.rows, "held_ms": entry.held_ms}


def told(found: Progress) -> dict[str, Any]:
    """A move for machines: whether somebody is at work, and its steps; with that under way, how far its batches are."""
    steps = [{"position": entry.position, **brief(entry)} for entry in found.entries]
    batches, under_way = found.batches, found.next
    if batches and under_way:
        done = batches.done / batches.pages if batches.pages else 1.0
        speed = {"rows_per_second": batches.rows_per_second, "seconds_left": batches.seconds_left}
        steps[under_way.position - 1] |= {"done": done, **speed}
    return {"at_work": found.at_work, "steps": steps}


def print_progress(found: Progress) -> None:
    """By phase what is done, and what is under way or next."""
    from tenantry.adopt.step import PHASES

    for phase in PHASES:
        entries = [entry for entry in found.entries if entry.step.phase == phase]
        done, rows = sum(entry.state == "done" for entry in entries), sum(entry.rows for entry in entries)
        typer.echo(f"{phase:<10} {done} of {len(entries)} steps done{f', {rows:,} rows' if rows else ''}")
    if found.next is None:
        return
    verb = "At work on" if found.at_work else "Broken off in" if found.next.state == "running" else "Next"
    typer.echo(f"{verb}: {printable(found.next.step.name)}")
    if found.batches is not None:
        typer.echo(f"  {_far(found.next, found.batches)}")


def _far(entry: Entry, batches: Batches) -> str:
    share = 100 * batches.done / batches.pages if batches.pages else 100
    told = [f"{entry.rows:,} rows", f"{share:.0f} % of its pages"]
    if batches.seconds_left is not None:
        told += [f"{batches.rows_per_second:,.0f} rows/s", f"about {shown_seconds(batches.seconds_left)} left"]
    return ", ".join(told)


def shown_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


# --- what it will take ------------------------------------------------------------------------------------------------


def print_phases(steps: Sequence[Step]) -> None:
    """Rows, time and the strongest lock by phase."""
    from tenantry.adopt.step import PHASES

    for phase in PHASES:
        found = [step for step in steps if step.phase == phase]
        rows, seconds = sum(step.rows for step in found), sum(step.seconds for step in found)
        locks = {step.lock for step in found if step.how == "together"}
        lock = next((f"{lock}: {felt}" for lock, felt in _LOCKS.items() if lock in locks), "no lock that is felt")
        typer.echo(f"{phase:<10} {len(found):>5} steps, {rows:>12,} rows, about {seconds:,.0f} s; {lock}")


def print_steps(entries: Sequence[Entry]) -> None:
    """A table: rows, time and lock of each step, by phase."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "step", "rows", "about", "lock"):
        table.add_column(name, justify="left" if name in ("step", "lock") else "right", overflow="fold")
    phase = ""
    for entry in entries:
        step = entry.step
        if step.phase != phase:
            phase = step.phase
            table.add_row("", phase, style="bold")
        rows, seconds = (f"{step.rows:,}", shown_seconds(step.seconds)) if step.rows else ("", "")
        table.add_row(str(entry.position), Text(printable(step.name)), rows, seconds, step.lock)
    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE).print(table)
