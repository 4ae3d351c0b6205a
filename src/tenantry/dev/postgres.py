"""A PostgreSQL server of our own in one folder: started as our child, stopped when we stop or die.

    with PostgresServer(Path(".tenantry/postgres")) as server:
        psycopg.connect(server.dsn("postgres"))

The folder has three neighbours: `.lock`, held by us *and* by the server (so it is free only when no process of a
former run is left), `.log`, and `.new` while the folder is being made. As root the server runs as another user.
Nothing outside these, the socket's folder and (for root) `/var/lib/tenantry` is ever changed, and no process that
was not started here is ever signalled. Linux and macOS.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

from tenantry.dev.binaries import SHARED_STATE, Binaries, find_binaries, make_runnable
from tenantry.dev.child import Account, Child, start_child, unprivileged_account
from tenantry.errors import ConfigurationError, DatabaseUnavailable

LONGEST_SOCKET_PATH = 103  # bytes; macOS's limit, Linux allows 107
READY_SECONDS = 60.0
SOCKET_PORT = 5432  # part of the socket's name; nothing listens on it


class PostgresServer:
    """One server over one data folder, made on first use. A second start on the folder is refused.

    `settings` are server settings (`{"fsync": "off"}`). Without `port` it listens on a unix socket alone, where any
    role may log in (the socket's folder is ours only); with `port` also on 127.0.0.1, by password.
    `watchdog` forces one of the two ways of `start_child`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        binaries: Binaries | None = None,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        watchdog: bool | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.log_file = self._neighbour(".log")
        self.port = port or SOCKET_PORT
        self.socket_dir = self.data_dir
        self._addresses = "127.0.0.1" if port else ""
        self._binaries = binaries
        self._settings = settings or {}
        self._watchdog = watchdog
        self._lock: int | None = None
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The server's process id. Raises DatabaseUnavailable when it does not run."""
        if self._child is None:
            raise DatabaseUnavailable("The PostgreSQL server is not running.", hint="Call start() first.")
        return self._child.pid

    def dsn(self, database: str, user: str = "postgres") -> str:
        """A connection URL that libpq, psycopg and asyncpg all read."""
        where = urlencode({"host": str(self.socket_dir), "port": self.port})
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?{where}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when the server accepts connections.

        Raises ConfigurationError when it cannot be run here, DatabaseUnavailable when it is run and does not start.
        """
        try:
            self._start()
        except OSError as error:
            self.stop()
            raise ConfigurationError(
                f"The database folder {self.data_dir} cannot be used: {error.strerror}: {error.filename}",
                hint="Choose another folder, or mend the permissions of this one.",
            ) from None
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the server with a fast shutdown and frees the folder; safe to call again."""
        if self._child is not None:
            self._child.stop()
            self._child = None
            if self.socket_dir != self.data_dir.resolve():
                shutil.rmtree(self.socket_dir, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _start(self) -> None:
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        lock = self._lock = _take_lock(self._neighbour(".lock"))
        account = self._account()
        binaries = make_runnable(self._binaries or find_binaries(), account)
        if not (self.data_dir / "PG_VERSION").exists():
            self._create(binaries, account)
        self._check_version(binaries)
        data_dir = self.data_dir.resolve()
        _discard_stale_pid_file(data_dir / "postmaster.pid")
        self.socket_dir = _socket_directory(data_dir, self.port, account)
        settings = {
            "listen_addresses": self._addresses,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log_file.open("wb") as log:
            self._child = start_child(
                [binaries.postgres, "-D", data_dir, *options],
                account=account,
                log=log,
                held=lock,
                environment=_environment(),
                watchdog=self._watchdog,
            )
        self._wait_until_ready(self._child, data_dir / "postmaster.pid")

    def _account(self) -> Account:
        """Who the server runs as: the folder's owner if we are root, since PostgreSQL runs as nobody else."""
        account = unprivileged_account()
        if not (self.data_dir / "PG_VERSION").exists():
            return account
        owner = self.data_dir.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
        if owner.st_uid != account.uid:
            raise ConfigurationError(
                f"The database folder {self.data_dir} belongs to another user (uid {owner.st_uid}).",
                hint="Run as that user, or remove the folder to start afresh.",
            )
        return account

    def _create(self, binaries: Binaries, account: Account) -> None:
        """Makes the folder beside its place and moves it there whole: a kill in between leaves no half database."""
        if self.data_dir.is_symlink():
            self.data_dir.unlink()  # what it pointed to is gone
        if self.data_dir.exists():
            if any(self.data_dir.iterdir()):
                raise ConfigurationError(
                    f"The folder {self.data_dir} is not empty and holds no PostgreSQL database.",
                    hint="Choose another folder, or empty it.",
                )
            self.data_dir.rmdir()
        fresh = self._neighbour(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        _give(fresh, account)
        if _reaches(fresh, account):
            _initialize(fresh, binaries, account)
            fresh.rename(self.data_dir)
        else:
            fresh.rmdir()
            self.data_dir.symlink_to(_create_elsewhere(binaries, account))

    def _check_version(self, binaries: Binaries) -> None:
        made_by = (self.data_dir / "PG_VERSION").read_text().strip()
        if made_by != str(binaries.major):
            raise ConfigurationError(
                f"The database in {self.data_dir} was made by PostgreSQL {made_by}, "
                f"but the server found here is {binaries.version}.",
                hint=f"Install PostgreSQL {made_by}'s binaries, or remove the folder to start afresh.",
            )

    def _wait_until_ready(self, child: Child, pid_file: Path) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not _is_ready(pid_file, child.pid):
            if child.exited() or time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    "The embedded PostgreSQL did not start.",
                    detail=_last_lines(self.log_file),
                    hint=f"Its log is {self.log_file}.",
                )
            time.sleep(0.01)

    def _neighbour(self, suffix: str) -> Path:
        return self.data_dir.with_name(self.data_dir.name + suffix)


def _take_lock(path: Path) -> int:
    """Locks the folder for us and the server we start, which inherits the open file.

    Held by a live process: an error at once. Held by the server of a dead one, which is shutting down: waits for it.
    """
    import fcntl  # not on Windows

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = _read_pid(os.pread(descriptor, 32, 0).decode())
            if (holder and _process_name(holder)) or time.monotonic() > deadline:
                os.close(descriptor)
                raise ConfigurationError(
                    f"The database folder {path.with_suffix('')} is in use by process {holder or 'unknown'}.",
                    hint="Stop that process first, or choose another folder.",
                ) from None
            time.sleep(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _discard_stale_pid_file(path: Path) -> None:
    """Removes a `postmaster.pid` whose process is no PostgreSQL: the pid was given to another since.

    PostgreSQL handles the rest itself: it replaces the file of a dead process and refuses to start beside a live one.
    Holding the lock, we know that no process of a server started here is left.
    """
    holder = _read_pid(path.read_text()) if path.exists() else None
    if holder and _process_name(holder) not in (None, "postgres", "postmaster"):
        path.unlink()


def _read_pid(text: str) -> int | None:
    first = text.partition("\n")[0].strip()
    return int(first) if first.isdecimal() else None


def _process_name(pid: int) -> str | None:
    """The name of a process's program; None when there is no such process."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            return None
    answer = subprocess.run(["ps", "-p", str(pid), "-o", "comm="], capture_output=True, text=True)
    return Path(answer.stdout.strip()).name or None


def _socket_directory(data_dir: Path, port: int, account: Account) -> Path:
    """The data folder, which is private already; a private short folder when the socket's path would not fit.

    (libpq reads a comma in a host as a list.)
    """
    if len(os.fsencode(data_dir / f".s.PGSQL.{port}")) <= LONGEST_SOCKET_PATH and not set(str(data_dir)) & {",", '"'}:
        return data_dir
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    short = Path("/tmp") / f"tenantry-{account.uid}-{digest}"
    try:
        short.mkdir(mode=0o700)
        _give(short, account)
    except FileExistsError:
        found = short.lstat()
        if short.is_symlink() or found.st_uid != account.uid or found.st_mode & 0o077:
            raise ConfigurationError(
                f"The socket folder {short} exists and is not private to uid {account.uid}.", hint="Remove it."
            ) from None
    return short


def _create_elsewhere(binaries: Binaries, account: Account) -> Path:
    """A database outside a folder that only root may enter. The ancestors' permissions are the user's business."""
    SHARED_STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="data-", dir=SHARED_STATE))
    _give(fresh, account)
    _initialize(fresh, binaries, account)
    return fresh


def _initialize(directory: Path, binaries: Binaries, account: Account) -> None:
    locale = ["--locale=C"]
    if binaries.major >= 17:  # the same everywhere, and lower('É') works
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    access = ["--auth-local=trust", "--auth-host=scram-sha-256"]
    answer = subprocess.run(
        [binaries.initdb, "-D", directory, "-U", "postgres", "-E", "UTF8", *locale, *access, "--no-instructions"],
        capture_output=True,
        text=True,
        cwd="/",
        env=_environment(),
        **account.options(),
    )
    if answer.returncode != 0:
        shutil.rmtree(directory, ignore_errors=True)
        raise DatabaseUnavailable("The embedded PostgreSQL could not be set up.", detail=answer.stderr.strip())


def _reaches(directory: Path, account: Account) -> bool:
    """Whether this account may enter the folder, by trying."""
    enter = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)]
    tried = subprocess.run(enter, cwd="/", stderr=subprocess.DEVNULL, **account.options())
    return tried.returncode == 0


def _give(directory: Path, account: Account) -> None:
    if not account.is_ours:
        os.chown(directory, account.uid, account.gid)


def _environment() -> dict[str, str]:
    """Ours without libpq's and the server's own variables, which would change what is started."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Whether the server says so, in the line of its pid file that pg_ctl reads."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _last_lines(log: Path, count: int = 5) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
