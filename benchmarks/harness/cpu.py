"""CPU time of processes from the scheduler's own count: nanoseconds on a core, not ticks of 10 ms. Linux alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

Reading = dict[int, int]


def family(pid: int) -> list[int]:
    """A process and its children, as PostgreSQL's postmaster and its backends."""
    return [pid, *(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def read(pids: Iterable[int]) -> Reading:
    """Nanoseconds each process has had so far, over all its threads."""
    return {pid: sum(map(_on_cpu, Path(f"/proc/{pid}/task").glob("*/schedstat"))) for pid in pids}


def spent(before: Reading, after: Reading) -> int:
    """Nanoseconds between two readings; a process that came meanwhile counts whole."""
    return sum(at - before.get(pid, 0) for pid, at in after.items())


def _on_cpu(schedstat: Path) -> int:
    try:
        return int(schedstat.read_text().split()[0])
    except FileNotFoundError:  # the thread is gone
        return 0
