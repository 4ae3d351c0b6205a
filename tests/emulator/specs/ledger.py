"""The ledger of what is known to differ from Clerk's specifications: gaps.toml, one entry for each reason."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from emulator.specs.apis import Name
from emulator.specs.findings import Finding, Kind

FILE = Path(__file__).with_name("gaps.toml")


@dataclass(frozen=True)
class Gap:
    """A finding, or several with one reason, that stands in the ledger. See gaps.toml for what each field means."""

    spec: Name
    where: list[str]
    kind: Kind
    reason: str
    fields: list[str]

    @property
    def findings(self) -> set[Finding]:
        return {Finding(where, field, self.kind) for where in self.where for field in self.fields}


@cache
def gaps(spec: Name) -> tuple[Gap, ...]:
    with FILE.open("rb") as file:
        entries = tomllib.load(file)["gap"]
    return tuple(Gap(**{"fields": [""]} | entry) for entry in entries if entry["spec"] == spec)


def known(spec: Name) -> set[Finding]:
    return {finding for gap in gaps(spec) for finding in gap.findings}


def refused(spec: Name) -> list[str]:
    """Operations that are there to answer no, in shape."""
    return [where for gap in gaps(spec) if gap.kind == "refused" for where in gap.where]
