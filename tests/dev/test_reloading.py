"""The app of a development run starts again when its files change, and is never left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from dev.runs import UP, running
from processes import is_alive, wait_until
from tenantry.dev import reloading
from tenantry.dev.reloading import Files
from tenantry.dev.screen import Screen
from tenantry.dev.serving import claim_port

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
UP_AGAIN = "The app is up again."
SERVER = ".tenantry/postgres.lock"  # names the process

AN_APP = """
import os
import psycopg
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def state(request):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        permissions = connection.execute("select permission from tenantry.role_permissions").fetchall()
    return JSONResponse({"word": "old", "process": os.getpid(), "permissions": permissions})

app = Starlette(routes=[Route("/", state)])
"""
ROLES = """
[roles."org:member"]
permissions = ["documents:sign"]
"""
STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("imported").touch()
time.sleep(600)
"""


@pytest.fixture
def project(open_tmp_path: Path) -> Path:
    folder = open_tmp_path / "project"
    folder.mkdir()
    (folder / "an_app.py").write_text(AN_APP)
    return folder


def test_a_changed_file_starts_the_app_again_beside_the_same_database(project: Path) -> None:
    with running(project, "--app", "an_app:app") as run:
        run.read_until(UP)
        before, server = run.state(), (project / SERVER).read_text()
        (project / "an_app.py").write_text(AN_APP.replace("old", "new"))
        run.read_until("an_app.py changed: starting the app again ...")
        run.read_until(UP_AGAIN)
        after = run.state()
        assert (before["word"], after["word"]) == ("old", "new")
        assert not is_alive(before["process"])
        assert (project / SERVER).read_text() == server
        run.process.send_signal(signal.SIGINT)
        assert run.finish()[0] == 0
        assert not is_alive(after["process"])


def test_a_changed_tenantry_toml_is_applied(project: Path) -> None:
    with running(project, "--app", "an_app:app") as run:
        run.read_until(UP)
        (project / "tenantry.toml").write_text(ROLES)
        run.read_until(UP_AGAIN)
        assert run.state()["permissions"] == [["documents:sign"]]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [("an_app.py", "1 / 0\n", "ZeroDivisionError: division by zero"), ("tenantry.toml", "[[roles", "tenantry.toml: ")],
)
def test_a_file_that_is_saved_broken_is_told_and_does_not_end_the_run(
    project: Path, file: str, content: str, told: str
) -> None:
    (project / "tenantry.toml").write_text(ROLES)
    whole = (project / file).read_text()
    with running(project, "--app", "an_app:app") as run:
        run.read_until(UP)
        (project / file).write_text(content)
        run.read_until("It starts again when a file changes.")
        assert told in run.printed
        assert "Traceback" not in run.printed
        (project / file).write_text(whole)
        run.read_until(UP_AGAIN)
        assert run.state()["permissions"] == [["documents:sign"]]


def test_an_app_that_ends_by_itself_starts_again_when_a_file_changes(project: Path) -> None:
    with running(project, "--app", "an_app:app") as run:
        run.read_until(UP)
        os.kill(run.state()["process"], signal.SIGKILL)
        run.read_until("The app's process ended with exit code -9.")
        (project / "an_app.py").write_text(AN_APP.replace("old", "new"))
        run.read_until(UP_AGAIN)
        assert run.state()["word"] == "new"


def test_without_reload_the_app_runs_in_the_same_process(project: Path) -> None:
    with running(project, "--app", "an_app:app", "--no-reload") as run:
        run.read_until(UP)
        assert run.state()["process"] == run.process.pid


@ON_LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "a closed terminal"])
def test_what_a_terminal_sends_to_all_of_them_ends_all(project: Path, number: signal.Signals) -> None:
    with running(project, "--app", "an_app:app") as run:
        run.read_until(UP)
        everyone = run.everyone()
        os.killpg(run.process.pid, number)
        code, printed = run.finish()
        assert code == (0 if number == signal.SIGINT else 143)
        assert "Traceback" not in printed
        assert wait_until(lambda: not any(map(is_alive, everyone)))


@ON_LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_app_that_is_being_imported_is_not_left_behind(project: Path, number: signal.Signals) -> None:
    (project / "slow.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(600)\n")
    with running(project, "--app", "slow:app") as run:
        run.read_until("importing")
        everyone = run.everyone()
        run.process.send_signal(number)
        assert "Traceback" not in run.finish()[1]
        assert wait_until(lambda: not any(map(is_alive, everyone)))


@ON_LINUX
def test_an_app_that_does_not_end_is_killed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "stubborn.py").write_text(STUBBORN)
    monkeypatch.chdir(project)
    monkeypatch.setattr(reloading, "STOP_SECONDS", 0.1)
    with claim_port(0, 0, "--port") as claimed:
        with reloading.running("stubborn:app", project, claimed, Screen()) as app:
            assert wait_until((project / "imported").exists)
            assert is_alive(app.pid)
        assert not is_alive(app.pid)
    assert "is killed" in capsys.readouterr().out


@ON_LINUX
def test_ctrl_c_ends_a_run_that_a_script_started_in_the_background(project: Path) -> None:
    with ExitStack() as stack:
        former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a shell's `&` leaves to what it starts
        try:
            run = stack.enter_context(running(project, "--app", "an_app:app"))
        finally:
            signal.signal(signal.SIGINT, former)
        run.read_until(UP)
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.finish()[0] == 0


@ON_LINUX
def test_an_app_ends_with_who_started_it_though_nobody_heard_that_it_is_up(project: Path) -> None:
    ours, theirs = socket.socketpair()
    with claim_port(0, 0, "--port") as claimed, theirs:
        passed = (claimed.fileno(), theirs.fileno())
        module = ("tenantry.dev.app_process", "an_app:app", str(project), *map(str, passed))
        process = subprocess.Popen([sys.executable, "-P", "-m", *module], pass_fds=passed)
    try:
        with ours:
            assert select.select([ours], [], [], 60)[0]
        assert process.wait(20) in (0, 143, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait(20)


def test_code_and_settings_are_watched(project: Path) -> None:
    (project / "package").mkdir()
    for name in ("package/new.py", "tenantry.toml"):
        files = Files(project)
        assert files.changed() is None
        (project / name).touch()
        assert files.changed() == Path(name)
    files = Files(project)
    (project / "an_app.py").unlink()
    assert files.changed() == Path("an_app.py")


@pytest.mark.parametrize("folder", [".tenantry", "node_modules", "__pycache__", "env/lib"])
def test_what_is_not_the_apps_is_not_watched(project: Path, folder: str) -> None:
    (project / folder).mkdir(parents=True)
    (project / "env").mkdir(exist_ok=True)
    (project / "env" / "pyvenv.cfg").touch()
    files = Files(project)
    (project / folder / "other.py").touch()
    (project / "page.html").touch()
    assert files.changed() is None
