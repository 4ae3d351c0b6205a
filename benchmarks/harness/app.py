"""A contender's app in a process of its own: one uvicorn worker with uvloop and httptools."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.harness import cpu
from benchmarks.harness.postgres import free_port
from tenantry.dev.child import die_with_parent

READY_SECONDS = 30
STOP_SECONDS = 10
ROOT = Path(__file__).parents[2]


class App:
    """A running app: `factory` is `module:function`, called in the app's own process and environment."""

    def __init__(self, factory: str, environment: Mapping[str, str], folder: Path) -> None:
        self.port = free_port()
        self._factory = factory
        self._log = folder / f"app-{self.port}.log"
        options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "--factory", factory, "--port", str(self.port), *options],
                env={**os.environ, **environment},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cpu(self) -> cpu.Reading:
        """CPU time of the worker so far."""
        return cpu.read([self._process.pid])

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of one request, outside all measuring."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait(self) -> None:
        """Returns when it answers. Raises RuntimeError with its log when it does not."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self._factory} did not start:\n{self._log.read_text()[-2000:]}")
