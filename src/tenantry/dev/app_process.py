"""The app of a development run in a process of its own, which ends when the one that started it does.

Usage: python -m tenantry.dev.app_process MODULE:APP FOLDER SOCKET_FD LINE_FD
Serves on the socket. On the line it writes `up`, or why it cannot be: an object of JSON. The line's end is its own end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from tenantry.dev.serving import load_app, serve
from tenantry.errors import ConfigurationError, TenantryError

UP = b"up"
STOP_SECONDS = 10.0


def main(name: str, folder: Path, socket_fd: int, line_fd: int) -> int:
    """Its exit code."""
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    claimed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=socket_fd)
    line = socket.socket(fileno=line_fd)
    for passed in (claimed, line):
        passed.set_inheritable(False)  # no process that the app starts is to hold them open
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    try:
        # Ctrl-C was ignored until here: it would have ended in a traceback of the interpreter's own start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        serve(load_app(name, folder), claimed, lambda: line.sendall(UP))
    except TenantryError as error:
        line.sendall(_tell(error))
        line.shutdown(socket.SHUT_WR)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _end_with(line: socket.socket) -> None:
    with suppress(OSError):  # it ended before it read what was told
        line.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)


def _tell(error: TenantryError) -> bytes:
    told = {"message": error.message, "detail": error.detail, "hint": error.hint}
    return json.dumps({"usage": isinstance(error, ConfigurationError), "told": told}).encode()


def read_error(told: bytes) -> TenantryError:
    """The error that the process told."""
    read = json.loads(told)
    return (ConfigurationError if read["usage"] else TenantryError)(**read["told"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
