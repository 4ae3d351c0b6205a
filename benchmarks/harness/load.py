"""The load generator: a process of its own that keeps N connections busy and times every answer.

Closed loop, keep-alive, ready-made requests and the least of an HTTP parser, so that the client's CPU hides nothing.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Answers:
    """How long each answer took, in ns, and all of them together, in s."""

    times: list[int]
    seconds: float


class Load:
    """Sends requests from another process."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(10)

    def send(self, port: int, requests: Sequence[bytes], connections: int) -> Answers:
        """Sends each request once. Raises RuntimeError when one is answered with anything but 2xx."""
        self._pipe.send((port, requests, connections))
        answer: Answers | str = self._pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


def raw(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _serve(pipe: Connection) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while True:
            try:
                port, requests, connections = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send(runner.run(_send(port, requests, connections)))
            except (RuntimeError, OSError) as error:
                pipe.send(str(error))


async def _send(port: int, requests: list[bytes], connections: int) -> Answers:
    sending = _Sending(requests, connections)
    loop = asyncio.get_running_loop()
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        for _ in range(connections):
            await loop.create_connection(lambda: _Client(sending), "127.0.0.1", port)
        await sending.done
        return Answers(sending.times, time.perf_counter() - started)
    finally:
        gc.enable()


class _Sending:
    """What the connections share: the requests not sent yet, the times taken."""

    def __init__(self, requests: list[bytes], connections: int) -> None:
        self.left = iter(requests)
        self.open = connections
        self.times: list[int] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))


class _Client(asyncio.Protocol):
    """One connection: sends the next request as soon as the last is answered."""

    def __init__(self, sending: _Sending) -> None:
        self._sending = sending
        self._received = b""
        self._sent_at = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TCP's is a Transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not _is_whole(self._received):
            return
        self._sending.times.append(time.perf_counter_ns() - self._sent_at)
        if self._received[9:10] != b"2":
            self._sending.fail(f"refused: {self._received[:600]!r}")
        self._received = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._sent_at:
            self._sending.fail(f"the server closed the connection: {error}")

    def _next(self) -> None:
        request = next(self._sending.left, None)
        if request is not None:
            self._sent_at = time.perf_counter_ns()
            self._transport.write(request)
            return
        self._sent_at = 0
        self._transport.close()
        self._sending.open -= 1
        if not self._sending.open and not self._sending.done.done():
            self._sending.done.set_result(None)


def _is_whole(answer: bytes) -> bool:
    """Whether head and body are there. Every contender sends a Content-Length."""
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    names = answer[:head].lower()
    start = names.find(b"content-length:")
    if start < 0:
        raise ValueError("an answer without Content-Length")
    end = names.find(b"\r", start)
    length = int(names[start + 15 : end if end > 0 else head])
    return len(answer) >= head + 4 + length
