"""The sets of npm packages that tests stand on are pinned whole, and name no registry."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import has_node
from scaffold.node import PACKAGES, SETS, environment


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_pinned_and_names_no_registry(name: str) -> None:
    package = json.loads((PACKAGES / name / "package.json").read_text())
    entries = json.loads((PACKAGES / name / "package-lock.json").read_text())["packages"]
    for wanted in (package["dependencies"], package["devDependencies"]):
        assert [version for version in wanted.values() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
        assert {entries[f"node_modules/{one}"]["version"] for one in wanted} == set(wanted.values())
    assert not [path for path, entry in entries.items() if path and "integrity" not in entry]
    assert not [path for path, entry in entries.items() if "resolved" in entry]


@pytest.mark.parametrize(
    ("says", "serves"), [("v18.20.4", False), ("v20.8.1", False), ("v20.9.0", True), ("v22.1.0", True), ("", False)]
)
def test_a_node_that_is_too_old_for_next_is_none(
    says: str, serves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node").write_text(f"#!/bin/sh\necho {says}\n")
    (tmp_path / "node").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert has_node() is serves


def test_programs_get_nothing_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTNAME", "here")
    monkeypatch.setenv("CLERK_SECRET_KEY", "sk_test_of_the_shell")
    given = environment(PORT="1")
    assert not {"HOSTNAME", "CLERK_SECRET_KEY"} & given.keys()
    assert (given["PORT"], given["NEXT_TELEMETRY_DISABLED"]) == ("1", "1")
