"""Identifiers: Clerk's form, one seed one sequence."""

from hypothesis import given
from hypothesis import strategies as st

from tenantry.emulator.identifiers import Identifiers, base62


def test_an_identifier_is_a_prefix_and_27_characters() -> None:
    prefix, _, rest = Identifiers(1).new("org").partition("_")
    assert (prefix, len(rest), rest.isalnum()) == ("org", 27, True)


def test_one_seed_gives_one_sequence_and_another_seed_another() -> None:
    sequences = [[identifiers.new("user") for _ in range(5)] for identifiers in map(Identifiers, (1, 1, 2))]
    assert sequences[0] == sequences[1]
    assert set(sequences[0]).isdisjoint(sequences[2])


def test_identifiers_sort_by_creation() -> None:
    identifiers = Identifiers(1)
    made = [identifiers.new("org") for _ in range(2000)]
    assert made == sorted(made)


def test_a_later_run_starts_from_the_reserved_number_and_repeats_nothing() -> None:
    reserved: list[int] = []
    first = Identifiers(1, reserve=reserved.append)
    made = {first.new("org") for _ in range(1500)}
    second = Identifiers(1, start=reserved[-1])
    assert made.isdisjoint({second.new("org") for _ in range(1500)})


@given(st.integers(min_value=0, max_value=2**160 - 1))
def test_base62_loses_nothing(number: int) -> None:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    read = 0
    for digit in base62(number, 27):
        read = read * 62 + alphabet.index(digit)
    assert (read, len(base62(number, 27))) == (number, 27)
