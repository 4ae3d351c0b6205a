"""Starts a server process that ends when we end, however we end, and runs it without root's rights."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict

from tenantry.errors import ConfigurationError

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
STOP_SECONDS = 60.0
WATCHDOG = Path(__file__).with_name("watchdog.py")


class RunAs(TypedDict, total=False):
    """The keyword arguments of `subprocess.Popen` that change the user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """The system user a server runs as."""

    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()

    def options(self) -> RunAs:
        return {} if self.is_ours else {"user": self.uid, "group": self.gid, "extra_groups": []}


def unprivileged_account() -> Account:
    """Ourselves; for root, which PostgreSQL refuses, the user `postgres` or else `nobody`."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    import pwd  # not on Windows

    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(found.pw_uid, found.pw_gid)
    raise ConfigurationError(
        "PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' to run it as.",
        hint="Run as an ordinary user, or set DATABASE_URL to a server you already have.",
    )


@dataclass
class Child:
    """A running server. `pid` is the server's own, also when a watchdog stands between."""

    pid: int
    _process: subprocess.Popen[bytes]

    def exited(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """Asks for a fast shutdown and waits for it; safe to call again. Only ever signals its own child."""
        self._interrupt()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_SECONDS)

    def _interrupt(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        else:
            self._process.send_signal(signal.SIGINT)


def start_child(
    command: Sequence[str | Path],
    *,
    account: Account,
    log: IO[bytes],
    held: int,
    environment: Mapping[str, str],
    watchdog: bool | None = None,
) -> Child:
    """Runs `command` in a session of its own, so that a Ctrl-C reaches it only through us.

    `held` is a file descriptor the server keeps open. Linux tells a child of its parent's death, if the starting
    *thread* lives as long as the process; otherwise a watchdog process reads a pipe until we are gone.
    """
    if watchdog is None:
        watchdog = sys.platform != "linux" or threading.current_thread() is not threading.main_thread()
    start = _start_watched if watchdog else _start_bound
    return start([str(part) for part in command], account, log, held, environment)


def _start_bound(
    command: list[str], account: Account, log: IO[bytes], held: int, environment: Mapping[str, str]
) -> Child:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=environment,
        start_new_session=True,
        pass_fds=(held,),
        preexec_fn=die_with_parent(signal.SIGINT),
        **account.options(),
    )
    return Child(process.pid, process)


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` that asks Linux to send the child this signal when the parent dies; None elsewhere.

    It runs after the change of user, which would clear the request.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def request() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return request


def _start_watched(
    command: list[str], account: Account, log: IO[bytes], held: int, environment: Mapping[str, str]
) -> Child:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", WATCHDOG, str(held), str(account.uid), str(account.gid), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd="/",
        env=environment,
        start_new_session=True,
        pass_fds=(held,),
    )
    if process.stdout is None:  # never: it was asked for above
        raise RuntimeError("the watchdog has no output")
    with process.stdout as answer:
        return Child(int(answer.readline() or 0), process)
