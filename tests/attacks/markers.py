"""Which tests carry a marker of the attack suite: `python -m attacks.markers` collects them and ends with JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_MARKED = re.compile(r"\bmark\.(?:attack|breach)\(")


@dataclass(frozen=True)
class Markers:
    """Scenario number -> the tests that show it, as `folder/file.py::test`, each once and in pytest's order."""

    attacks: dict[int, list[str]]
    breaches: dict[int, list[str]]


def collect() -> Markers:
    """Collects in a process of its own, since one pytest does not run inside another. Raises where a file fails to."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    answer = subprocess.run(
        [sys.executable, "-m", "attacks.markers"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if answer.returncode:
        raise RuntimeError(f"The tests cannot be collected.\n{answer.stdout}{answer.stderr}")
    found = json.loads(answer.stdout.splitlines()[-1])
    return Markers(*({int(number): tests for number, tests in kind.items()} for kind in found))


class _Collector:
    def __init__(self) -> None:
        self.found: tuple[dict[int, list[str]], dict[int, list[str]]] = {}, {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            if item.get_closest_marker("xfail"):  # shows nothing yet
                continue
            test = item.nodeid.partition("[")[0].removeprefix("tests/")
            for tests, name in zip(self.found, ("attack", "breach"), strict=True):
                for number in (number for mark in item.iter_markers(name) for number in mark.args):
                    if test not in tests.setdefault(number, []):
                        tests[number].append(test)


def main() -> int:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    marked = [str(file) for file in files if _MARKED.search(file.read_text(encoding="utf-8"))]
    collector = _Collector()
    status = pytest.main(["--collect-only", "-qq", "--pg=18", "-p", "no:cacheprovider", *marked], plugins=[collector])
    print(json.dumps(collector.found))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
