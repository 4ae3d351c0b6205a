"""Interleaved measuring: in each round every contender has its turn, in shuffled order; ratios are paired by round.

A machine drifts by tens of percent within minutes. What happens in the same round happens in the same weather, so
ratios are taken there, and their median is what counts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeVar

Role = Literal["floor", "reference", "peer", "ours"]
T = TypeVar("T")


@dataclass(frozen=True)
class Contender:
    """Who is measured. `make` is where its code is: `module:function`. `floor` names whom it is compared with.

    `login`: as whom its app connects.
    """

    name: str
    role: Role
    make: str
    floor: str | None = None
    login: str = "app"


@dataclass(frozen=True)
class Turn:
    """One contender's turn in one round: times of single operations in us, operations a second, CPU us an operation."""

    times: tuple[float, ...]
    rate: float
    server_cpu: float
    postgres_cpu: float

    @property
    def median(self) -> float:
        return median(self.times)

    @property
    def cpu(self) -> float:
        return self.server_cpu + self.postgres_cpu


def by_median(turn: Turn) -> float:
    return turn.median


def by_cpu(turn: Turn) -> float:
    return turn.cpu


def by_rate(turn: Turn) -> float:
    return turn.rate


def shuffled(rounds: int, contenders: Sequence[T]) -> Iterator[list[T]]:
    """The contenders in another order for each round, the same in every run."""
    for number in range(rounds):
        order = list(contenders)
        random.Random(number).shuffle(order)
        yield order


def paired(turns: Sequence[Turn], floor: Sequence[Turn], value: Callable[[Turn], float]) -> float:
    """The median over rounds of a turn's value to the floor's in the same round."""
    return median(value(own) / value(base) for own, base in zip(turns, floor, strict=True))


def to_floor(turns: Sequence[Turn], floor: Sequence[Turn] | None, value: Callable[[Turn], float]) -> float | None:
    """`paired`, or None where the floor was not chosen to run."""
    return None if floor is None else paired(turns, floor, value)


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[round((len(ordered) - 1) * share)]


def typical(turns: Sequence[Turn], value: Callable[[Turn], float]) -> float:
    """The median over rounds."""
    return median(map(value, turns))


def p95(turns: Sequence[Turn]) -> float:
    """The 95th percentile of a round, its median over rounds."""
    return median(percentile(turn.times, 0.95) for turn in turns)


def choose(contenders: Sequence[Contender], only: Sequence[str]) -> list[Contender]:
    """Those whose role is named, or whose name contains a word of `only`; all without one."""
    words = [word.lower() for word in only]
    return [c for c in contenders if not words or any(word == c.role or word in c.name.lower() for word in words)]
