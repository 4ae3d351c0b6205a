"""`tenantry changes`: prints what changed, goes on where it stopped, and shows and mends who has failed."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from databases import Database, Server
from instance import fresh_database
from sql.clerk_objects import event, membership, organization, user
from sql.mirror import Mirror
from tenantry import mirror
from tenantry.cli import app
from tenantry.cli.changes import _Named
from tenantry.database import connect, run
from tenantry.errors import ConfigurationError, InvalidArgument


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


def deliver(database: Database, *events: Any) -> None:
    with database.connect() as connection:
        for told in events:
            Mirror(connection).deliver(told)


def changes(database: Database, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["changes", *arguments], env={"DATABASE_URL": database.dsn()})


def lines(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_name_is_quoted_for_the_shell(database: Database) -> None:
    deliver(database, event("user.created", user()))
    fail(database, "to Ada's mail")
    listed = changes(database, "list").stdout
    command = next(line for line in listed.splitlines() if "resume" in line).partition("tenantry ")[2]
    assert shlex.split(command.removesuffix(", or skip"))[1:] == ["resume", "to Ada's mail"]


def fail(database: Database, name: str) -> None:
    with connect(database.dsn()) as connection:
        run(connection, mirror.add_consumer(name, ["*"], "beginning"))
        run(connection, mirror.sequence_changes())
        first = mirror.decode(run(connection, mirror.read_consumer(name, ["*"], 10)))["changes"][0]["pos"]
        run(connection, mirror.fail_consumer(name, first, "ValueError in line 3 of app.py", attempts=1, backoff=1))


def test_changes_are_printed_and_no_position_is_kept(database: Database) -> None:
    deliver(database, event("organizationMembership.created", membership()))
    for _ in range(2):
        told = lines(changes(database, "--from", "beginning", "--json"))
        assert [one["kind"] for one in told] == ["tenant.created", "user.created", "member.joined"]
    assert lines(changes(database, "--json")) == []
    assert changes(database, "list").stdout == "Nobody is told of changes yet.\n"


def test_a_line_says_when_what_and_whom(database: Database) -> None:
    deliver(database, event("organizationMembership.created", membership()))
    printed = changes(database, "--from", "beginning", "--kind", "member.*").stdout
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d  member\.joined +orgmem_1  tenant ", printed)
    assert printed.endswith("  user_1  (webhook)\n")
    assert len(printed.splitlines()) == 1


def test_a_name_goes_on_where_it_stopped(database: Database) -> None:
    deliver(database, event("user.created", user("user_1")))
    first = lines(changes(database, "--as", "export", "--from", "beginning", "--json"))
    deliver(database, event("user.created", user("user_2")), event("organization.created", organization()))
    second = lines(changes(database, "--as", "export", "--from", "beginning", "--json", "--kind", "user.created"))
    assert [one["object_id"] for one in first + second] == ["user_1", "user_2"]
    assert lines(changes(database, "--as", "export", "--json")) == []
    assert "export  reading" in changes(database, "list").stdout


def test_what_could_not_be_shown_is_shown_again(database: Database) -> None:
    deliver(database, event("user.created", user()))
    shown: list[Any] = []

    def break_off(page: list[Any]) -> None:
        raise BrokenPipeError

    with connect(database.dsn()) as connection:
        run(connection, mirror.sequence_changes())
        reader = _Named(connection, "export", ("*",), "beginning")
        with pytest.raises(BrokenPipeError):
            reader.next(break_off)
        reader.next(shown.extend)
        reader.next(shown.extend)
    assert [one["object_id"] for one in shown] == ["user_1"]


def test_following_prints_what_comes_and_a_killed_follower_loses_nothing(database: Database) -> None:
    command = [
        sys.executable,
        "-m",
        "tenantry",
        "changes",
        "--follow",
        "--as",
        "export",
        "--json",
        "--from",
        "beginning",
    ]

    @contextmanager
    def follow() -> Iterator[subprocess.Popen[str]]:
        whole = [*command, "--database-url", database.dsn()]
        with subprocess.Popen(whole, stdout=subprocess.PIPE, text=True) as follower:
            try:
                yield follower
            finally:
                follower.kill()

    seen = []
    for n in (1, 2):
        with follow() as follower:
            deliver(database, event("user.created", user(f"user_{n}")))
            assert follower.stdout is not None
            seen.append(json.loads(follower.stdout.readline())["object_id"])
            deliver(database, event("organization.created", organization(f"org_{n}")))
            seen.append(json.loads(follower.stdout.readline())["object_id"])
            follower.send_signal(signal.SIGKILL)
    with follow() as follower:
        deliver(database, event("user.created", user("user_9")))
        assert follower.stdout is not None
        while (name := json.loads(follower.stdout.readline())["object_id"]) != "user_9":
            seen.append(name)
        follower.send_signal(signal.SIGINT)
        assert follower.wait(30) == 130
    assert set(seen) == {"user_1", "org_1", "user_2", "org_2"}


def test_who_failed_is_listed_resumed_skipped_and_removed(database: Database) -> None:
    deliver(database, event("user.created", user()))
    fail(database, "mail")
    found = changes(database, "list")
    assert found.exit_code == 1
    assert found.stdout.splitlines() == [
        "mail  parked  *  1 to come",
        "  failed 1 times at change 1 (user.created user_1)",
        "  ValueError in line 3 of app.py",
        "  Next: tenantry changes resume mail, or skip",
    ]
    assert json.loads(changes(database, "list", "--json").stdout)[0]["state"] == "parked"
    assert isinstance(changes(database, "--as", "mail").exception, ConfigurationError)
    assert changes(database, "resume", "mail").exit_code == 0
    assert changes(database, "list").exit_code == 0
    assert isinstance(changes(database, "skip", "mail").exception, InvalidArgument)
    fail(database, "mail")
    assert changes(database, "skip", "mail").stdout == "mail goes on after change 1.\n"
    assert changes(database, "list").stdout == "mail  reading  *  0 to come\n"
    assert (changes(database, "remove", "mail").exit_code, changes(database, "remove", "mail").exit_code) == (0, 1)


@pytest.mark.parametrize("arguments", [["--kind", "member.join"], ["--from", "yesterday"]])
def test_what_cannot_be_asked_for_is_refused(database: Database, arguments: list[str]) -> None:
    assert isinstance(changes(database, *arguments).exception, ConfigurationError)
