"""Ports and apps are found, or it is said in a sentence why not."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tenantry.dev.serving import address_of, claim_port, load_app
from tenantry.errors import ConfigurationError

_numbers = count()


@pytest.fixture(autouse=True)
def restored_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield int(holder.getsockname()[1])


def write_module(folder: Path, code: str) -> str:
    name = f"an_app_{next(_numbers)}"
    (folder / f"{name}.py").write_text(code)
    return name


def test_a_taken_default_port_gives_way_to_the_next_free_one(taken_port: int) -> None:
    with claim_port(None, taken_port, "--port") as claimed:
        assert claimed.getsockname()[1] > taken_port
        assert address_of(claimed) == f"http://127.0.0.1:{claimed.getsockname()[1]}"


def test_a_taken_port_that_was_asked_for_is_an_error(taken_port: int) -> None:
    with pytest.raises(ConfigurationError, match=f"Port {taken_port} is in use.\nChoose another with --port"):
        claim_port(taken_port, 8000, "--port")


def test_a_claimed_port_is_nobody_elses(taken_port: int) -> None:
    with claim_port(None, taken_port, "--port") as claimed, pytest.raises(ConfigurationError, match="in use"):
        claim_port(claimed.getsockname()[1], 8000, "--port")


def test_an_app_is_found_by_its_name(tmp_path: Path) -> None:
    name = write_module(tmp_path, "class apps:\n    def main(scope, receive, send): ...\n")
    assert load_app(f"{name}:apps.main", tmp_path).__name__ == "main"


@pytest.mark.parametrize("name", ["", ":", "main", "main:", ":app", "..:app", "a b:app", "main.py:app", "é:app"])
def test_a_name_nobody_has_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        load_app(name, tmp_path)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", "has no 'app'"),
        ("app = 3", "is a int, not an ASGI app"),
        ("\n1 / 0\n", "ZeroDivisionError: division by zero\n.*line 2: 1 / 0"),
        ("def app(:", "SyntaxError: .*\n.*line 1"),
        ("import no_such_package_anywhere", "No module named 'no_such_package_anywhere'\n.*line 1"),
        (
            "from tenantry.errors import ConfigurationError\nraise ConfigurationError('no key', hint='set it')",
            "no key\nset it\n.*line 2",
        ),
    ],
    ids=["no attribute", "no app", "raises", "syntax", "missing package", "our own error"],
)
def test_an_app_that_fails_to_import_says_what_and_where(code: str, told: str, tmp_path: Path) -> None:
    name = write_module(tmp_path, code)
    with pytest.raises(ConfigurationError, match=told):
        load_app(f"{name}:app", tmp_path)
