"""The committed vectors of `has()` are what the pinned official SDK answers when it is asked again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import lack

FOLDER = Path(__file__).parent / "vectors"
UNREACHABLE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|network")
INSTALL = "npm install --no-audit --no-fund --ignore-scripts --fetch-retries=1 --fetch-timeout=15000"


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A copy of the script beside the SDK it asks."""
    for name in ("make.mjs", "package.json"):
        shutil.copy(FOLDER / name, tmp_path)
    ran = subprocess.run(INSTALL.split(), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if ran.returncode and UNREACHABLE.search(ran.stderr):
        lack("npm's registry cannot be reached")
    assert ran.returncode == 0, ran.stderr
    return tmp_path


def sessions(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())["sessions"]
    return found


@pytest.mark.requires("node", "npm")
def test_the_official_sdk_still_answers_what_the_vectors_say(official: Path) -> None:
    subprocess.run(["node", "make.mjs", "made.json"], cwd=official, check=True, capture_output=True, timeout=60)
    made, committed = sessions(official / "made.json"), sessions(FOLDER / "has.json")
    assert [session["name"] for session in made] == [session["name"] for session in committed]
    differing = [ours["name"] for ours, theirs in zip(committed, made, strict=True) if ours != theirs]
    assert differing == []
