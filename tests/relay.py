"""A TCP relay in front of a test server, which can fall silent or be cut while the server runs on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from databases import APP, Database


class Relay:
    """Listens on 127.0.0.1 and passes everything on to the server's Unix socket, until told otherwise."""

    def __init__(self, database: Database) -> None:
        self._database = database
        postgres = database.server.postgres
        self._socket = f"{postgres.socket_dir}/.s.PGSQL.{postgres.port}"
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._answering = asyncio.Event()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    @property
    def dsn(self) -> str:
        return f"postgresql://{APP}@127.0.0.1:{self.port}/{self._database.name}?sslmode=disable"

    def mute(self) -> None:
        """Connections stay, new ones too, and nothing passes."""
        self._flowing.clear()
        self._answering.clear()

    def hold_answers(self) -> None:
        """What the server says does not arrive any more."""
        self._answering.clear()

    async def cut(self) -> None:
        """Connections break, new ones are refused."""
        if self._listener is not None:
            self._listener.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener = None

    async def restore(self) -> None:
        self._flowing.set()
        self._answering.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._socket)
        self._writers |= {writer, back}
        for source, sink, gate in ((reader, back, self._flowing), (there, writer, self._answering)):
            task = asyncio.create_task(self._pass_on(source, sink, gate))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await gate.wait()
                sink.write(data)
                await sink.drain()
        sink.close()
