"""The Next.js example's suite is what `tenantry init nextjs` writes; its packages are those that its tests run with."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from browser.nextjs import MADE_HERE, PACKAGES, WEB
from scaffold.node import PACKAGES as SETS

RECORD = "clerk-multitenant/tenantry.json"
API = WEB.parent / "api"
HOW = "python -m tenantry init nextjs --dir examples/documents/web --roles examples/documents/api/tenantry.toml --yes"


def init(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`tenantry init nextjs` in a copy of the example, beside its `tenantry.toml`."""
    command = [sys.executable, "-m", "tenantry", "init", "nextjs", "--dir", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "api").mkdir()
    shutil.copy(API / "tenantry.toml", tmp_path / "api")
    shutil.copytree(WEB, tmp_path / "web", ignore=MADE_HERE)
    return tmp_path / "web"


def test_the_suite_is_the_unedited_output_of_init(copy: Path) -> None:
    written = [*json.loads((copy / RECORD).read_text(encoding="utf-8"))["files"], RECORD, ".env.example"]
    for path in written:
        (copy / path).unlink()
    ran = init(copy, "--roles", str(copy.parent / "api" / "tenantry.toml"), "--yes")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for path in {*written, *_files(copy / "clerk-multitenant", copy)}:
        assert (copy / path).read_bytes() == (WEB / path).read_bytes(), f"{path} is another: {HOW}"
    assert _files(copy / "clerk-multitenant", copy) == _files(WEB / "clerk-multitenant", WEB), HOW


def test_init_finds_nothing_to_do_in_the_example(copy: Path) -> None:
    ran = init(copy, "--check")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_an_edited_suite_is_told_apart(copy: Path) -> None:
    edited = copy / "clerk-multitenant" / "cache.ts"
    edited.write_text(edited.read_text(encoding="utf-8") + "// mine\n", encoding="utf-8")
    ran = init(copy, "--check")
    assert ran.returncode == 1
    assert "// mine" in ran.stdout


def test_the_locked_packages_are_those_the_tests_run_with() -> None:
    ours, tested = _locked(WEB), _locked(SETS / PACKAGES)
    named = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    for name in {**named["dependencies"], **named["devDependencies"]}:
        place = f"node_modules/{name}"
        assert ours[place]["version"] == tested[place]["version"], f"{name} is another in packages/{PACKAGES}"


def test_the_lock_serves_every_platform_and_names_no_registry() -> None:
    lock = _locked(WEB)
    assert not [place for place, package in lock.items() if "resolved" in package]
    builds = lock["node_modules/next"]["optionalDependencies"]
    assert len([name for name in builds if name.startswith("@next/swc-")]) >= 8
    assert not [name for name in builds if f"node_modules/{name}" not in lock], "npm ci would refuse this lock"


def test_no_page_or_query_names_a_tenant() -> None:
    for path in _files(WEB / "documents", WEB) | _files(WEB / "app", WEB):
        text = (WEB / path).read_text(encoding="utf-8")
        assert not re.search(r"tenant_id|x-org|set_tenant", text), path


def _files(folder: Path, root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in folder.rglob("*") if path.is_file()}


def _locked(folder: Path) -> dict[str, Any]:
    packages: dict[str, Any] = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    return packages
