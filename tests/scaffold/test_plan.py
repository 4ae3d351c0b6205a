"""A plan never overwrites what somebody else wrote or edited, says why, and a second run has nothing to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantry.errors import ConfigurationError, TenantryError
from tenantry.scaffold.plan import Merge, Plan, Record, Wanted, make_plan, read_record, remember, write

RECORD = "suite/tenantry.json"
OPTIONS = {"orm": "pg"}


def plan(root: Path, *wanted: Wanted) -> Plan:
    earlier = read_record(root / RECORD)
    return remember(make_plan(root, wanted, earlier), earlier, OPTIONS, RECORD)


def actions(found: Plan) -> dict[str, str]:
    return {step.path: step.action for step in found.steps if step.path != RECORD}


def file(path: str = "suite/a.ts", text: str = "one\n", **more: object) -> Wanted:
    return Wanted(path, text, "a reason", **more)  # type: ignore[arg-type]


def test_what_is_missing_is_created(tmp_path: Path) -> None:
    found = plan(tmp_path, file())
    assert actions(found) == {"suite/a.ts": "create"}
    write(found)
    assert (tmp_path / "suite/a.ts").read_text() == "one\n"


def test_a_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    write(plan(tmp_path, file(), file("b.ts")))
    again = plan(tmp_path, file(), file("b.ts"))
    assert again.to_write == again.differences == ()


def test_what_nobody_edited_follows_a_newer_release(tmp_path: Path) -> None:
    write(plan(tmp_path, file()))
    newer = plan(tmp_path, file(text="two\n"))
    assert actions(newer) == {"suite/a.ts": "change"}
    write(newer)
    assert (tmp_path / "suite/a.ts").read_text() == "two\n"
    assert plan(tmp_path, file(text="two\n")).to_write == ()


@pytest.mark.parametrize("text", ["one\n", "two\n"], ids=["the same release", "a newer release"])
def test_what_was_edited_is_kept_and_said(tmp_path: Path, text: str) -> None:
    write(plan(tmp_path, file()))
    (tmp_path / "suite/a.ts").write_text("mine\n")
    for _ in range(2):  # the record still knows what was written, and not what was edited
        found = plan(tmp_path, file(text=text))
        assert actions(found) == {"suite/a.ts": "keep"}
        assert "you edited it" in found.steps[0].reason
        write(found)
    assert (tmp_path / "suite/a.ts").read_text() == "mine\n"
    assert [step.path for step in plan(tmp_path, file(text=text)).differences] == ["suite/a.ts"]


def test_line_ends_of_windows_are_no_edit(tmp_path: Path) -> None:
    write(plan(tmp_path, file(text="one\ntwo\n")))
    (tmp_path / "suite/a.ts").write_bytes(b"one\r\ntwo\r\n")
    assert actions(plan(tmp_path, file(text="one\ntwo\n"))) == {"suite/a.ts": "same"}


def test_what_was_there_before_is_kept(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite/a.ts").write_bytes(b"\xff\xfe mine")
    write(plan(tmp_path, file()))
    assert (tmp_path / "suite/a.ts").read_bytes() == b"\xff\xfe mine"


def test_somebody_elses_file_is_left_to_merge_until_it_has_the_lines(tmp_path: Path) -> None:
    wanted = file("proxy.ts", "use the_sign\n", merge=Merge("use the_sign\n", "the_sign"))
    (tmp_path / "proxy.ts").write_text("mine\n")
    found = plan(tmp_path, wanted)
    assert actions(found) == {"proxy.ts": "merge"}
    write(found)
    assert (tmp_path / "proxy.ts").read_text() == "mine\n"
    assert [step.path for step in plan(tmp_path, wanted).differences] == ["proxy.ts"]
    (tmp_path / "proxy.ts").write_text("mine\nuse the_sign, too\n")
    assert actions(plan(tmp_path, wanted)) == {"proxy.ts": "merged"}
    assert plan(tmp_path, wanted).differences == ()


def test_lines_are_added_to_a_file_of_the_users(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("MINE=1\n")
    wanted = file(".env.example", "MINE=1\nOURS=2\n", adds=True)
    write(plan(tmp_path, wanted))
    assert (tmp_path / ".env.example").read_text() == "MINE=1\nOURS=2\n"


def test_a_file_that_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    found = plan(tmp_path, file())
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite/a.ts").write_text("mine\n")
    with pytest.raises(TenantryError, match=r"a.ts cannot be written: File exists"):
        write(found)
    assert (tmp_path / "suite/a.ts").read_text() == "mine\n"


def test_what_is_no_longer_part_of_it_is_named_and_stays(tmp_path: Path) -> None:
    write(plan(tmp_path, file(), file("b.ts")))
    found = plan(tmp_path, file())
    assert found.dropped == ("b.ts",)
    write(found)
    assert (tmp_path / "b.ts").exists()


def test_a_folder_in_a_files_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "suite/a.ts").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"a.ts cannot be read: Is a directory"):
        plan(tmp_path, file())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"options": 1, "files": {}}', '{"files": {}}'])
def test_a_broken_record_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "tenantry.json").write_text(text)
    with pytest.raises(ConfigurationError, match="is not as `tenantry init` wrote it"):
        read_record(tmp_path / "tenantry.json")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record({"orm": "pg"}, {"a.ts": "0123"})
    (tmp_path / "tenantry.json").write_text(record.dump())
    assert read_record(tmp_path / "tenantry.json") == record
    assert read_record(tmp_path / "missing.json") == Record()


def test_a_diff_shows_what_would_become_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text("one\n")
    (step,) = make_plan(tmp_path, [file("a.ts", "two\n")]).steps
    assert step.diff() == ["--- a/a.ts", "+++ b/a.ts", "@@ -1 +1 @@", "-one", "+two"]
