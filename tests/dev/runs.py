"""`tenantry dev` as a person runs it: a process with its output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import children_of

UP = "Webhooks delivered"
LIMIT_S = 180  # of a run, with all that a test waits for in it


class Run:
    """A running `tenantry dev` and what it printed so far."""

    def __init__(self, project: Path, *arguments: str, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE", "TENANTRY_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tenantry", "dev", "--port", "0", "--emulator-port", "0", *arguments],
            cwd=project,
            env=clean | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.printed = ""
        self.limit = threading.Timer(LIMIT_S, os.killpg, (self.process.pid, signal.SIGKILL))
        self.limit.daemon = True
        self.limit.start()

    def read_until(self, text: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if text in line:
                return line
        raise AssertionError(f"'{text}' was never printed, but:\n{self.printed}")

    def finish(self) -> tuple[int, str]:
        """Exit code and everything printed."""
        assert self.process.stdout is not None
        self.printed += self.process.stdout.read()
        return self.process.wait(30), self.printed

    def everyone(self) -> list[int]:
        return [self.process.pid, *children_of(self.process.pid)]

    @property
    def app_url(self) -> str:
        found = re.search(r"App +(http://127\.0\.0\.1:\d+)", self.printed)
        assert found
        return found.group(1)

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.app_url, timeout=30) as response:
            return json.load(response)  # type: ignore[no-any-return]


@contextmanager
def running(project: Path, *arguments: str, **environment: str) -> Iterator[Run]:
    run = Run(project, *arguments, **environment)
    try:
        yield run
    finally:
        run.limit.cancel()
        run.process.kill()
        assert run.process.stdout is not None
        run.process.stdout.close()
        run.process.wait(30)
        _await_end_of_postgres(project)


def _await_end_of_postgres(project: Path) -> None:
    """A killed run's server stops by itself, a moment later, and writes into its folder until then."""
    pid_file = project / ".tenantry" / "postgres" / "postmaster.pid"
    deadline = time.monotonic() + 30
    while pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
