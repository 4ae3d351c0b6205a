"""A streaming standby of a test server, made by pg_basebackup and open for reading."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

import psycopg

from databases import APP, SUPERUSER, Database, Server
from tenantry.dev.binaries import find_binaries, make_runnable
from tenantry.dev.child import start_child, unprivileged_account

READY_SECONDS = 20


@dataclass(frozen=True)
class Replica:
    """A running standby."""

    primary: Server
    socket_dir: Path

    def dsn(self, database: Database, user: str = APP) -> str:
        where = urlencode({"host": str(self.socket_dir), "port": self.primary.postgres.port})
        return f"postgresql://{user}@/{database.name}?{where}"

    def catch_up(self) -> None:
        """Returns when it has replayed all that the primary has committed so far."""
        written = _ask(self.primary.postgres.dsn("postgres"), "select pg_current_wal_insert_lsn()")
        where = urlencode({"host": str(self.socket_dir), "port": self.primary.postgres.port})
        _wait(f"postgresql://{SUPERUSER}@/postgres?{where}", f"select pg_last_wal_replay_lsn() >= '{written}'")


@contextmanager
def replicating(primary: Server) -> Iterator[Replica]:
    account = unprivileged_account()
    binaries = make_runnable(find_binaries(primary.version), account)
    source = primary.postgres
    with TemporaryDirectory(prefix="tenantry-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        data, sockets = folder / "standby", folder / "sockets"  # apart: the backup brings the primary's socket lock
        for made in (data, sockets):
            made.mkdir(mode=0o700)
            if not account.is_ours:
                os.chown(made, account.uid, account.gid)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        source_options = ["-h", str(source.socket_dir), "-p", str(source.port), "-U", SUPERUSER]
        subprocess.run(
            [binaries.directory / "pg_basebackup", *source_options, "-D", data, "-R", "-c", "fast", "-X", "stream"],
            check=True,
            capture_output=True,
            cwd="/",
            env=environment,
            **account.options(),
        )
        settings = {
            "listen_addresses": "",
            "port": source.port,
            "unix_socket_directories": sockets,
            "max_connections": 200,  # no fewer than the primary's
            "fsync": "off",
            "hot_standby": "on",
        }
        options = [part for setting, value in settings.items() for part in ("-c", f"{setting}={value}")]
        with (folder / "log").open("wb") as log:
            child = start_child(
                [binaries.postgres, "-D", data, *options],
                account=account,
                log=log,
                held=log.fileno(),
                environment=environment,
            )
        try:
            replica = Replica(primary, sockets)
            try:
                _wait(replica.dsn(Database("postgres", primary), SUPERUSER), "select pg_is_in_recovery()")
            except psycopg.OperationalError:
                raise RuntimeError((folder / "log").read_text()) from None
            yield replica
        finally:
            child.stop()


def _ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def _wait(dsn: str, query: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            if _ask(dsn, query):
                return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise TimeoutError(query)
        time.sleep(0.02)
