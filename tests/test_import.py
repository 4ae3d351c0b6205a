"""Importing the package is cheap: an app pays for what it uses."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "alembic",
    "asyncpg",
    "cryptography",
    "fastapi",
    "httpx",
    "psycopg",
    "pydantic",
    "rich",
    "sqlalchemy",
    "starlette",
    "typer",
    "uvicorn",
}
LONGEST_IMPORT = 50_000  # microseconds


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def import_microseconds(module: str) -> int:
    """The best of several runs: what it costs when the machine does nothing else."""
    lines = [run("-X", "importtime", "-c", f"import {module}").stderr.splitlines()[-1] for _ in range(7)]
    return min(int(line.split("|")[1]) for line in lines)


def test_import_loads_no_framework_and_no_driver() -> None:
    loaded = run("-c", "import sys, tenantry; print(*{name.partition('.')[0] for name in sys.modules})").stdout.split()
    assert "tenantry" in loaded
    assert not HEAVY & set(loaded)


def test_import_stays_under_fifty_milliseconds() -> None:
    assert import_microseconds("tenantry") < LONGEST_IMPORT


def test_help_loads_no_framework_and_no_driver() -> None:
    script = (
        "import sys, contextlib\nfrom tenantry.cli import app\n"
        "with contextlib.suppress(SystemExit): app(['--help'])\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    assert not (HEAVY - {"typer", "rich"}) & set(run("-c", script).stderr.split())
