"""Every scenario is shown not to happen, and to happen without its defence; and the page says so."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from attacks.markers import ROOT, Markers, collect
from attacks.table import PAGE, Scenario, insert, render, scenarios


@pytest.fixture(scope="module")
def markers() -> Markers:
    return collect()


@pytest.fixture(scope="module")
def listed() -> list[Scenario]:
    return scenarios()


def test_every_scenario_is_numbered_and_says_what_stops_it(listed: list[Scenario]) -> None:
    assert [scenario.number for scenario in listed] == list(range(1, 101))
    assert [scenario.number for scenario in listed if not (scenario.defence or scenario.not_ours)] == []


def test_every_defence_has_a_test_that_it_holds_and_one_that_it_is_what_holds(
    listed: list[Scenario], markers: Markers
) -> None:
    needed = {scenario.number for scenario in listed if scenario.defence}
    assert needed - markers.attacks.keys() == set()
    assert needed - markers.breaches.keys() == set()


def test_every_marker_is_of_a_scenario(listed: list[Scenario], markers: Markers) -> None:
    assert markers.attacks.keys() | markers.breaches.keys() <= {scenario.number for scenario in listed}


def test_what_is_not_ours_to_stop_is_said_to_users(listed: list[Scenario]) -> None:
    functions = resources.files("tenantry").joinpath("sql", "functions").iterdir()
    codes = set(re.findall(r"'(TC\d\d)'", "".join(file.read_text() for file in functions)))
    for scenario in listed:
        assert bool(scenario.not_ours) == bool(scenario.said_in), scenario
        page, _, anchor = scenario.said_in.partition("#")
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        elif scenario.not_ours:
            assert page in codes, scenario


def test_the_page_shows_the_scenarios_and_tests_there_are(listed: list[Scenario], markers: Markers) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert insert(page, render(listed, markers)) == page, "make attacks writes the table anew"
