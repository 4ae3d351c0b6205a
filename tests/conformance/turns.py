"""A TCP way to a test server that counts round trips, and can keep the server's answer to one of them back."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

from databases import APP, Database

_FLUSH = b"H"  # a client may send one behind a Sync, and wait for nothing


class Turns:
    """Counts how often a client spoke after the server had: each is a round trip it waited for.

    The server says nothing before a client asks it to, so the count does not depend on anybody's speed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        postgres = database.server.postgres
        self._target = f"{postgres.socket_dir}/.s.PGSQL.{postgres.port}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._keep_back: int | None = None
        self._released = threading.Event()
        self.kept_back = threading.Event()
        self.count = 0

    @property
    def dsn(self) -> str:
        port = self._listener.getsockname()[1]
        return f"postgresql://{APP}@127.0.0.1:{port}/{self._database.name}?sslmode=disable"

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._released.set()
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def restart(self, *, keep_back: int | None = None) -> None:
        """Counts from nought; the answer to the turn of that number waits for `release`, and all after it."""
        self.count, self._keep_back = 0, keep_back
        self.kept_back.clear()
        self._released.clear()

    def release(self) -> None:
        self._keep_back = None
        self._released.set()

    def _run(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                with suppress(OSError):
                    self._run(self._relay, self._listener.accept()[0])

    def _relay(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._target)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        messages, answered = _Messages(), True
        with client, server, suppress(OSError):
            while not self._closed.is_set():
                readable = select.select([client, server], [], [], 0.05)[0]
                if client in readable:
                    if not (data := client.recv(65536)):
                        return
                    kinds = messages.read(data)
                    if answered and kinds - {_FLUSH}:
                        self.count += 1
                        answered = False
                    server.sendall(data)
                if server in readable:
                    if not (data := server.recv(65536)):
                        return
                    answered = True
                    self._wait_for_release()
                    client.sendall(data)

    def _wait_for_release(self) -> None:
        if self._keep_back is not None and self.count >= self._keep_back:
            self.kept_back.set()
            self._released.wait(20)


class _Messages:
    """Splits what a client sends into messages: the first has no type, each later one begins with it."""

    def __init__(self) -> None:
        self._buffer = b""
        self._started = False

    def read(self, data: bytes) -> set[bytes]:
        """The types of the messages that end in `data`."""
        self._buffer += data
        kinds: set[bytes] = set()
        while True:
            prefix = 1 if self._started else 0
            if len(self._buffer) < prefix + 4:
                return kinds
            length = prefix + struct.unpack_from("!I", self._buffer, prefix)[0]
            if len(self._buffer) < length:
                return kinds
            kinds.add(self._buffer[:prefix] or b"startup")
            self._buffer = self._buffer[length:]
            self._started = True
