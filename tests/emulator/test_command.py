"""`tenantry emulator`: one clean screen, a line a delivery, events on request, and sentences for what cannot be."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import jwt
import pytest
from starlette.responses import Response
from typer.testing import CliRunner, Result

from emulator.world import Receiver, Runner, Running, wait_until
from snippets import blocks
from tenantry.cli.emulator import app
from tenantry.emulator.seed import DEFAULT
from tenantry.errors import ConfigurationError

SCRIPT = "from tenantry.cli.emulator import app; app()"


@contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The command as a process of its own, and the lines it prints."""
    started = subprocess.Popen(
        [sys.executable, "-u", "-c", SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    assert started.stdout
    reader = threading.Thread(target=lines.extend, args=(started.stdout,), daemon=True)
    reader.start()
    try:
        yield started, lines
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()
        reader.join()
        started.stdout.close()


def value(lines: list[str], name: str) -> str:
    return next(line.partition("=")[2].strip() for line in lines if line.strip().startswith(f"export {name}="))


def test_what_the_screen_says_works(receiver: Receiver, tmp_path: Path) -> None:
    with command("--port", "0", "--webhook-url", receiver.url, "--data", str(tmp_path / "data")) as (started, lines):
        wait_until(lambda: any("Webhooks delivered" in line for line in lines))
        assert any("Webhooks go to" in line and receiver.url in line for line in lines)
        url, key = value(lines, "CLERK_API_URL"), value(lines, "CLERK_SECRET_KEY")
        assert url.startswith("http://127.0.0.1:")
        users = httpx.get(f"{url}/v1/users", headers={"authorization": f"Bearer {key}"}).json()
        for user in users:
            assert any(user["email_addresses"][0]["email_address"] in line for line in lines)
        shown = next(line for line in lines if "/emulator/token" in line).split()
        form = dict(pair.split("=") for pair in shown if "=" in pair)
        token = httpx.post(f"{url}/emulator/token", data=form).text
        assert "o" in jwt.decode(token, options={"verify_signature": False})
        wait_until(lambda: any("session.created" in line and "delivered 200" in line for line in lines))
        started.send_signal(signal.SIGINT)
        assert started.wait(10) == 0
    assert not [line for line in lines if "Traceback" in line], "".join(lines)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_without_a_traceback(sent: signal.Signals) -> None:
    with command("--port", "0") as (started, lines):
        wait_until(lambda: any("nowhere" in line for line in lines))
        started.send_signal(sent)
        started.wait(10)
    assert not [line for line in lines if "Traceback" in line], "".join(lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--disorder", "often=1"], "'often' is no disorder"),
        (["--disorder", "twice=2"], "a probability is between 0 and 1"),
        (["--webhook-url", "nonsense"], "is no URL"),
        (["--data", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["--port", "0", *arguments])
    assert isinstance(result.exception, ConfigurationError)
    assert said in str(result.exception)


@pytest.mark.parametrize(
    "arguments", ["--port 70000", "--speed 0", "--speed nan", "--token-version 3", "--seed x", "--seed-file no"]
)
def test_a_bad_argument_is_a_usage_error(arguments: str) -> None:
    assert CliRunner().invoke(app, arguments.split()).exit_code == 2


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["--port", str(port)])
    assert isinstance(result.exception, ConfigurationError)
    assert f"Port {port} is in use" in str(result.exception)


def test_a_bad_seed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "seed.toml"
    path.write_text("[[users]]\n")
    result = CliRunner().invoke(app, ["--port", "0", "--seed-file", str(path)])
    assert "users[0] has no email" in str(result.exception)


@pytest.fixture
def clerk(run: Runner) -> Running:
    return run(seed_data=DEFAULT)


def trigger(clerk: Running, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["trigger", *arguments], env={"TENANTRY_EMULATOR_URL": clerk.url})


def test_the_command_of_the_page_removes_a_member_and_says_that_it_arrived(clerk: Running, receiver: Receiver) -> None:
    clerk.emulator.webhooks.add_endpoint(receiver.url)
    [command] = blocks("docs/emulator.md", "console")
    result = trigger(clerk, *command.split()[3:])
    assert result.exit_code == 0, result.output
    assert f"organizationMembership.deleted to {receiver.url}: delivered 200" in result.output
    [event] = receiver.events
    assert event["data"]["public_user_data"]["identifier"] == "grace@example.test"


def test_a_webhook_that_does_not_arrive_is_a_failure(clerk: Running, receiver: Receiver) -> None:
    clerk.emulator.webhooks.add_endpoint(receiver.url)
    receiver.answer = lambda number: Response("no", 500)
    result = trigger(clerk, "user.updated", "--user", "ada@example.test")
    assert result.exit_code == 1
    assert "failed 500, again in" in result.output


def test_an_event_that_nobody_wants_is_announced_all_the_same(clerk: Running) -> None:
    result = trigger(clerk, "user.updated", "--user", "ada@example.test", "--name", "Augusta King")
    assert (result.exit_code, "no endpoint wants it" in result.output) == (0, True)
    assert clerk.emulator.store.users.find("ada@example.test").last_name == "King"


def test_every_type_is_listed_with_what_it_needs(clerk: Running) -> None:
    listed = trigger(clerk, "--list").output
    assert re.search(r"organizationMembership\.deleted +--user --organization\n", listed)
    assert re.search(r"user\.created +--user \[--name\]\n", listed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.happened"], "is no event that the emulator can send"),
        (["user.deleted"], "user.deleted needs user"),
        (["user.deleted", "--user", "nobody"], "No user was found"),
        (["user.deleted", "--url", "http://127.0.0.1:1"], "No Clerk emulator answers at http://127.0.0.1:1"),
        (["user.deleted", "--url", "http://[::1"], "is no URL"),
        (["user.deleted", "--url", "nonsense"], "No Clerk emulator answers at nonsense"),
    ],
)
def test_what_cannot_be_triggered_is_said_in_a_sentence(clerk: Running, arguments: list[str], said: str) -> None:
    result = trigger(clerk, *arguments)
    assert isinstance(result.exception, ConfigurationError)
    assert said in result.exception.message
    assert result.exception.hint


def test_a_server_that_is_no_emulator_is_not_taken_for_one(clerk: Running, receiver: Receiver) -> None:
    result = trigger(clerk, "user.deleted", "--url", receiver.url)
    assert isinstance(result.exception, ConfigurationError)
    assert "No Clerk emulator answers" in result.exception.message
