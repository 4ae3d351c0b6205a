"""Results as tables: for a terminal, as Markdown, as JSON."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Cell = str | float | None
SHOWN_PACKAGES = ("uvicorn", "uvloop", "fastapi", "sqlalchemy", "asyncpg", "psycopg", "cryptography")


@dataclass(frozen=True)
class Goal:
    """What was aimed at, what came out, and whether that is enough. `text` names the quantity."""

    text: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{self.text} {sign} {self.limit:g}: {self.value:.3g}, {'met' if self.met else 'MISSED'}"


@dataclass
class Table:
    """One answer: rows under `columns`, and the goals they are held to."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    goals: list[tuple[str, Goal]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, cells: Sequence[Cell], who: str, goals: Sequence[Goal] = ()) -> None:
        """Adds a row; its last cell, under the last column, says whether `who` meets all its goals."""
        verdict = None if not goals else "met" if all(goal.met for goal in goals) else "MISSED"
        self.rows.append([*cells, verdict])
        self.goals += [(who, goal) for goal in goals]

    def as_text(self) -> str:
        return "\n".join([self.title, *_aligned(self.columns, self._cells()), *self._remarks("  ")])

    def as_markdown(self) -> str:
        lines = [f"### {self.title}", "", *_piped(self.columns, self._cells())]
        remarks = list(self._remarks("- "))
        return "\n".join([*lines, "", *remarks] if remarks else lines)

    def as_json(self) -> dict[str, Any]:
        goals = [
            {"contender": who, "goal": goal.text, "limit": goal.limit, "value": goal.value, "met": goal.met}
            for who, goal in self.goals
        ]
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "goals": goals, "notes": self.notes}

    def _cells(self) -> list[list[str]]:
        return [[_shown(cell) for cell in row] for row in self.rows]

    def _remarks(self, mark: str) -> list[str]:
        return [*(f"{mark}{who}: {goal}" for who, goal in self.goals), *(f"{mark}{note}" for note in self.notes)]


def machine(postgres_version: str | None) -> Mapping[str, str]:
    """What the numbers were measured on."""
    found = {
        "cores": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }
    if postgres_version:
        found["PostgreSQL"] = postgres_version
    for name in SHOWN_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.machine()


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if cell == 0 or abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}" if abs(cell) >= 0.1 else f"{cell:.3f}"


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    first, *rest = widths

    def line(cells: Sequence[str]) -> str:
        numbers = (cell.rjust(width) for cell, width in zip(cells[1:], rest, strict=True))
        return "  ".join([cells[0].ljust(first), *numbers]).rstrip()

    return [line(columns), line(["-" * width for width in widths]), *map(line, rows)]


def _piped(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]
