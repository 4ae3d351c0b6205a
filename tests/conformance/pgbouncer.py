"""The real PgBouncer in front of a test server, in transaction mode unless told otherwise: clients take turns on few
server connections.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from databases import APP, Database
from tenantry.dev.child import unprivileged_account

READY_SECONDS = 20


@contextmanager
def bouncing(database: Database, *, size: int = 1, mode: str = "transaction") -> Iterator[str]:
    """A URL through it, for the app's login; `size` server connections at most. It runs as the server's user."""
    account = unprivileged_account()
    postgres = database.server.postgres
    with TemporaryDirectory(prefix="tenantry-test-") as name:
        folder, port = Path(name), _free_port()
        folder.chmod(0o755)
        (folder / "users").write_text(f'"{APP}" ""\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": folder / "users",
            "pool_mode": mode,
            "default_pool_size": size,
        }
        lines = [f"{setting} = {value}" for setting, value in settings.items()]
        databases = f"[databases]\n* = host={postgres.socket_dir} port={postgres.port}\n"
        (folder / "pgbouncer.ini").write_text("\n".join([databases, "[pgbouncer]", *lines, ""]))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["pgbouncer", folder / "pgbouncer.ini"],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
                **account.options(),
            )
        try:
            _wait_until_ready(process, port, folder / "log")
            yield f"postgresql://{APP}@127.0.0.1:{port}/{database.name}?sslmode=disable"
        finally:
            process.terminate()
            process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.02)
