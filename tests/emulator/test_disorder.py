"""Disorder: by chance, but the same chance for the same seed."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.emulator.disorder import FAULTS, Disorder, decide, parse, refuses

HALF = Disorder(twice=0.2, late=0.2, swapped=0.2, lost=0.2)


def test_one_seed_is_one_fate_for_each_delivery_and_another_seed_another() -> None:
    fates = [[decide(HALF, seed, number) for number in range(200)] for seed in (1, 1, 2)]
    assert fates[0] == fates[1] != fates[2]


def test_every_fault_comes_about_as_often_as_asked() -> None:
    counted = Counter(decide(HALF, 1, number).fault for number in range(5000))
    assert counted["lost"] == pytest.approx(1000, rel=0.15)
    assert all(counted[fault] > 400 for fault in FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_certain_fault_befalls_every_delivery(fault: str) -> None:
    certain = replace(Disorder(), **{fault: 1.0})
    assert {decide(certain, 1, number).fault for number in range(50)} == {fault}


def test_without_disorder_nothing_happens() -> None:
    assert {decide(Disorder(), 1, number).fault for number in range(50)} == {None}


def test_delays_stay_within_what_was_asked() -> None:
    late = Disorder(late=1, late_seconds=10)
    delays = [decide(late, 1, number).delay for number in range(200)]
    assert min(delays) >= 2
    assert max(delays) <= 10


def test_requests_are_refused_as_often_as_asked_and_the_seed_says_which() -> None:
    runs = [[refuses(Disorder(rate_limit=0.3), seed, number) for number in range(1000)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert sum(runs[0]) == pytest.approx(300, rel=0.15)
    assert not any(refuses(Disorder(), 1, number) for number in range(100))


def test_disorder_is_read_from_one_line() -> None:
    assert parse("twice=0.2, late=0.1,late_seconds=5") == Disorder(twice=0.2, late=0.1, late_seconds=5)
    assert parse("") == Disorder()


@pytest.mark.parametrize(
    "text",
    ["often=1", "twice", "twice=", "twice=much", "twice=2", "twice=-1", "twice=nan", "rate_limit=2", "slow_seconds=-1"],
)
def test_what_is_no_disorder_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition("=")[0]):
        parse(text)


@given(st.text())
def test_any_text_is_disorder_or_a_value_error(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert str(error)
