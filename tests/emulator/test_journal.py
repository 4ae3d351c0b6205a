"""The journal: what was written is read again, whatever happened in between."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.emulator.journal import Journal, write_atomically

_CHANGES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.none() | st.integers() | st.text()))


@given(changes=_CHANGES)
def test_the_newest_value_of_each_id_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, str, object]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "state.jsonl"
    journal = Journal(path)
    expected: dict[tuple[str, str], object] = {}
    for kind, id, value in changes:
        journal.append(kind, id, value)
        expected[kind, id] = value
    journal.close()
    again = Journal(path)
    found = {(kind, id): value for kind, values in again.contents.items() for id, value in values.items()}
    again.close()
    assert found == {key: value for key, value in expected.items() if value is not None}


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    path.write_text('["user","1",{"a":1}]\n["user","2",{"a"')
    journal = Journal(path)
    journal.append("user", "3", {"a": 3})
    journal.close()
    again = Journal(path)
    assert again.contents == {"user": {"1": {"a": 1}, "3": {"a": 3}}}
    again.close()


@pytest.mark.parametrize("line", ["nonsense", "1", "[1, 2]", "{}"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "state.jsonl"
    path.write_text(f'["user","1",1]\n{line}\n["user","2",2]\n')
    with pytest.raises(ValueError, match="line 2, is damaged"):
        Journal(path)


def test_a_journal_that_is_open_is_not_opened_twice(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state.jsonl")
    with pytest.raises(ValueError, match="in use by another emulator"):
        Journal(tmp_path / "state.jsonl")
    journal.close()
    Journal(tmp_path / "state.jsonl").close()


def test_an_atomic_write_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "one")
    write_atomically(tmp_path / "a", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "two")]
