"""The command line answers bad input with a sentence and an exit code, never with a traceback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import __version__
from tenantry.database import read_url
from tenantry.errors import ConfigurationError

DATABASE_VARIABLES = ("DATABASE_URL", "TENANTRY_MIGRATION_URL")
PASSWORD = "hunter2-hunter2"


def tenantry(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in DATABASE_VARIABLES}
    command = [sys.executable, "-m", "tenantry", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=clean | environment, timeout=60)


def test_version_is_printed() -> None:
    assert tenantry("--version").stdout == f"tenantry {__version__}\n"


def test_help_lists_the_commands() -> None:
    answer = tenantry("--help")
    assert answer.returncode == 0
    assert all(command in answer.stdout for command in ("dev", "db"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nonsense",), "No such command"),
        (("db", "migrate"), "No database is given."),
        (("db", "migrate", "--database-url", f"postgresql://u:{PASSWORD}@ss@127.0.0.1/x"), "an '@' in its password"),
        (("db", "migrate", "--database-url", f"mysql://u:{PASSWORD}@127.0.0.1/x"), "cannot be read"),
        (("dev", "--port", "99999"), "65535"),
        (("dev", "--app-dir", "/no/such/folder"), "does not exist"),
        (("dev", "--seed-file", "/no/such/file"), "does not exist"),
    ],
)
def test_a_mistake_is_answered_with_a_sentence_and_exit_code_2(arguments: tuple[str, ...], sentence: str) -> None:
    answer = tenantry(*arguments, COLUMNS="200")
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr
    assert PASSWORD not in answer.stderr + answer.stdout
    assert answer.returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [("events", "list", "--type"), ("events", "show"), ("tenants", "purge"), ("users", "erase"), ("changes", "skip")],
)
def test_bytes_that_are_no_text_are_answered_with_a_sentence(arguments: tuple[str, ...]) -> None:
    answer = tenantry(*arguments, b"\xff".decode(errors="surrogateescape"))
    assert (answer.returncode, answer.stderr) == (2, "Error: An argument is not UTF-8: \\udcff.\n")


def test_an_unreachable_database_is_answered_with_a_sentence_and_exit_code_1(free_port: int) -> None:
    url = f"postgresql://app:{PASSWORD}@127.0.0.1:{free_port}/app"
    answer = tenantry("db", "migrate", DATABASE_URL=url)
    assert answer.stderr.startswith("Error: The database could not be reached.")
    assert f"port {free_port}" in answer.stderr
    assert PASSWORD not in answer.stderr
    assert answer.returncode == 1


@given(st.text(max_size=80) | st.text(max_size=60).map("postgresql://{}".format))
def test_any_text_as_a_database_url_is_read_or_refused(url: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert isinstance(read_url(url), dict)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+asyncpg"])
def test_a_url_in_the_form_of_sqlalchemy_is_read_too(scheme: str) -> None:
    read = read_url(f"{scheme}://app:p%40ss@db.example.test:6543/main?sslmode=require")
    assert read == {
        "user": "app",
        "password": "p@ss",
        "host": "db.example.test",
        "port": "6543",
        "dbname": "main",
        "sslmode": "require",
    }
