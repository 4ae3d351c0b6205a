"""What goes wrong on request: deliveries twice, late, swapped, lost or slow, requests refused; as the seed decides."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import Literal

from tenantry.emulator.identifiers import digest

Fault = Literal["twice", "late", "swapped", "lost"]
FAULTS: tuple[Fault, ...] = ("lost", "twice", "late", "swapped")


@dataclass(frozen=True, slots=True)
class Disorder:
    """Each fault's probability, 0 to 1. At most one befalls a delivery, `lost` first.

    `late_seconds` is the longest a late delivery waits, `slow_seconds` how long each one does, before any speed-up.
    `rate_limit` is the probability that the Backend API refuses a request as one too many.
    """

    twice: float = 0.0
    late: float = 0.0
    swapped: float = 0.0
    lost: float = 0.0
    late_seconds: float = 30.0
    slow_seconds: float = 0.0
    rate_limit: float = 0.0

    def __post_init__(self) -> None:
        for name in (*FAULTS, "rate_limit"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but a probability is between 0 and 1.")
        for name in ("late_seconds", "slow_seconds"):
            if not 0 <= getattr(self, name) <= 86_400:
                raise ValueError(f"{name} is {getattr(self, name)}, but a delay is between 0 and a day.")


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one delivery. `delay` is in seconds: of a late one, or until the second of two."""

    fault: Fault | None = None
    delay: float = 0.0


def decide(disorder: Disorder, seed: int, number: int) -> Fate:
    """The fate of the `number`-th delivery; no other delivery, and no clock, has a say in it."""
    chance = random.Random(digest(seed, "disorder", number))
    for fault in FAULTS:
        if chance.random() < getattr(disorder, fault):
            return Fate(fault, chance.uniform(0.2, 1) * disorder.late_seconds if fault in ("late", "twice") else 0.0)
    return Fate()


def refuses(disorder: Disorder, seed: int, number: int) -> bool:
    """Whether the `number`-th request to the Backend API is refused."""
    return random.Random(digest(seed, "rate limit", number)).random() < disorder.rate_limit


def parse(text: str) -> Disorder:
    """From `twice=0.2,late=0.1`. ValueError with a sentence that names what is wrong."""
    known = {field.name for field in fields(Disorder)}
    values: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in known:
            names = ", ".join(sorted(known))
            raise ValueError(f"{name!r} is no disorder; choose from {names}, as in twice=0.2,late=0.1.")
        try:
            values[name] = float(value)
        except ValueError:
            raise ValueError(f"{name}={value} has no number after the equals sign; write {name}=0.2.") from None
    return Disorder(**values)
