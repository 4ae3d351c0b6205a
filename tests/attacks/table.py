"""The table of attacks in docs/isolation.md, from scenarios.toml and the tests' markers.

`PYTHONPATH=tests python -m attacks.table` writes it anew.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from attacks.markers import ROOT, Markers, collect

SCENARIOS = Path(__file__).with_name("scenarios.toml")
PAGE = ROOT / "docs" / "isolation.md"
BEGIN = "<!-- attacks: written by `make attacks` -->"
END = "<!-- attacks: end -->"


@dataclass(frozen=True)
class Scenario:
    """One way to another tenant's rows; see scenarios.toml for what each field means."""

    number: int
    group: str
    what: str
    defence: str = ""
    not_ours: str = ""
    said_in: str = ""


def scenarios() -> list[Scenario]:
    with SCENARIOS.open("rb") as file:
        return [Scenario(**entry) for entry in tomllib.load(file)["scenario"]]


def render(listed: list[Scenario], markers: Markers) -> str:
    """The tables, one for each group."""
    return "\n".join(
        line for group, entries in groupby(listed, lambda s: s.group) for line in _group(group, entries, markers)
    )


def _group(group: str, entries: Iterator[Scenario], markers: Markers) -> Iterator[str]:
    yield from (f"### {group}", "", "| | What must not happen | What stops it | Tests |", "|---|---|---|---|")
    for scenario in entries:
        holds, shows = (found.get(scenario.number, []) for found in (markers.attacks, markers.breaches))
        tests = [*(f"`{test}`" for test in holds), *(f"without it: `{test}`" for test in shows)]
        yield f"| {scenario.number} | {scenario.what} | {_answer(scenario)} | {'<br>'.join(tests)} |"
    yield ""


def _answer(scenario: Scenario) -> str:
    rest = f"*Not ours:* {scenario.not_ours} {_place(scenario.said_in)}" if scenario.not_ours else ""
    return f"{scenario.defence} {rest}".strip()


def _place(said_in: str) -> str:
    page, _, anchor = said_in.partition("#")
    if not anchor:
        return f"Found as `{said_in}`."
    here = "" if ROOT / page == PAGE else Path(page).name
    return f"See [{anchor.replace('-', ' ')}]({here}#{anchor})."


def insert(page: str, table: str) -> str:
    """The page with the table between its two comments."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} lacks the comments between which the table stands.")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(insert(page, render(scenarios(), collect())), encoding="utf-8")


if __name__ == "__main__":
    main()
