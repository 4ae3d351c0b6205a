"""Serves ASGI apps on 127.0.0.1: claims a port, loads an app by name, runs uvicorn here or on a thread."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from tenantry.dev.loading import load
from tenantry.errors import ConfigurationError, TenantryError

HOST = "127.0.0.1"
PORTS_TO_TRY = 20
GRACE_SECONDS = 3
START_SECONDS = 30.0


def claim_port(wanted: int | None, default: int, option: str) -> socket.socket:
    """A listening socket: on `wanted` exactly, else on the first free port from `default` on.

    Raises ConfigurationError naming `option` when the port is taken or not ours to use.
    """
    candidates = [wanted] if wanted is not None else range(default, default + PORTS_TO_TRY)
    for port in candidates:
        claimed = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio leaves Nagle on: 40 ms a request
        claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            claimed.bind((HOST, port))
            claimed.listen()  # from now on callers wait instead of being refused
            return claimed
        except OSError as error:
            claimed.close()
            reason = "in use" if error.errno == errno.EADDRINUSE else (error.strerror or "not usable").lower()
        except OverflowError:
            claimed.close()
            reason = "not a port number"
    raise ConfigurationError(
        f"Port {candidates[0]} is {reason}." if wanted is not None else f"No port from {default} on is free.",
        hint=f"Choose another with {option}.",
    )


def address_of(claimed: socket.socket) -> str:
    return f"http://{HOST}:{claimed.getsockname()[1]}"


def load_app(name: str, folder: Path) -> Any:
    """The ASGI app `module:attribute`, its module found in `folder` first.

    Raises ConfigurationError with what is wrong with the name, or what the module's own code raised and where.
    """
    found = load(name, folder, what="app", example="--app main:app")
    if not callable(found):
        raise ConfigurationError(f"'{name}' is a {type(found).__name__}, not an ASGI app.")
    return found


def _configure(app: Any) -> uvicorn.Config:
    return uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)


class _Announcing(uvicorn.Server):
    """Says when the app is up."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def serve(app: Any, claimed: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serves until a signal ends it. Raises TenantryError when the app's start-up fails; its log says why."""
    server = _Announcing(_configure(app), on_ready)
    try:
        server.run(sockets=[claimed])
    except SystemExit as end:
        if end.code == STARTUP_FAILURE:
            raise TenantryError("The app did not start.", hint="Its own error is above.") from None
        raise


@contextmanager
def serve_on_thread(app: Any, claimed: socket.socket) -> Iterator[None]:
    """Serves in the background while the block runs: an app that blocks its own loop does not block this one."""
    server = uvicorn.Server(_configure(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [claimed]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise TenantryError("The emulator did not start.", hint="Its own error is above.")
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
