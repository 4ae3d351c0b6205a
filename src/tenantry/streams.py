"""Ends open websockets and streaming responses when their member's access ends.

A request is decided when it begins; what stays open outlives that decision. So each socket, and each response whose
body takes longer than a second, is watched: it is checked again when the database gives notice that its user's,
organization's or session's access may have ended, and at an interval in any case. A check asks what the request asked:
`set_tenant_v1`, and the rules of its `requires`. Refused, a socket is closed with 1008 and the error's code, and a
response is broken off; the app sees what it sees when a client leaves.

Nobody is checked before the request has entered a tenant: what is open to the public stays open.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import replace
from itertools import count
from random import uniform
from typing import TYPE_CHECKING, Any

from tenantry import mirror
from tenantry.errors import CallRefused, PermissionDenied, TenantryError
from tenantry.notices import EVERYBODY, Notices, subject_of

if TYPE_CHECKING:
    from tenantry.context import Scope, TenantContext
    from tenantry.pool import Pool

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

log = logging.getLogger("tenantry")

INTERVAL_SECONDS = 30
_SHORT_SECONDS = 1  # a response that is over by then is not watched
_MOST_CHECKS = 2  # of the pool's four connections
_LONGEST_UNCHECKED = 300  # or two intervals: how long a stream lasts while the database does not answer
_PAUSE_SECONDS = 5  # before an absent database is asked again
_NEXT, _SOMETIME, _NEVER = range(3)  # when a stream is checked: a notice names it, or does not
_POLICY_VIOLATION, _INTERNAL_ERROR = 1008, 1011  # RFC 6455, 7.4.1


class StreamEnded(OSError):
    """Raised in an app that goes on sending into a stream Tenantry ended, as servers do when the client has left."""


class Streams:
    """The open streams and sockets of a process, checked again until they end.

    `interval`: the most seconds between two checks of one; 0 watches nothing.
    """

    def __init__(self, pool: Pool, *, listen_url: str, interval: float = INTERVAL_SECONDS) -> None:
        self._pool = pool
        self._interval = interval
        self._longest_unchecked = max(_LONGEST_UNCHECKED, 2 * interval)
        self._notices = Notices(listen_url, heard=self._hear, probe=self._probe)
        self._watched: defaultdict[str, set[_Watched]] = defaultdict(set)
        self._asked: asyncio.PriorityQueue[tuple[int, int, _Watched]] = asyncio.PriorityQueue()
        self._order = count()
        self._workers: list[asyncio.Task[None]] = []
        self._outage: tuple[float, TenantryError] | None = None

    async def serve(self, app: App, scope: Any, receive: Receive, send: Send, access: Scope) -> None:
        """Runs an ASGI app for a request of `access`, and ends what it leaves open when the access ends."""
        if not self._interval or access.entry is None or access.error is not None:  # the latter enter no tenant
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await _Socket(self, access, receive, send).run(app, scope)
        else:
            await _Response(self, access, receive, send).run(app, scope)

    async def close(self) -> None:
        """Stops checking; what is open stays open."""
        await self._notices.close()
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    def watch(self, stream: _Watched) -> None:
        """Checks a stream now, since its access may have ended on the way, and from now on."""
        if not self._workers:
            self._notices.start()
            self._asked = asyncio.PriorityQueue()  # of this event loop
            self._workers = [asyncio.create_task(self._work()) for _ in range(_MOST_CHECKS)]
        for subject in stream.subjects:
            self._watched[subject].add(stream)
        stream.checked_at = asyncio.get_running_loop().time()
        self._schedule(stream)
        self._ask(stream)

    def forget(self, stream: _Watched) -> None:
        """The stream is over."""
        if stream.timer is None:
            return
        stream.timer.cancel()
        stream.timer = None
        for subject in stream.subjects:
            watched = self._watched.get(subject, set())
            watched.discard(stream)
            if not watched:
                self._watched.pop(subject, None)

    def _hear(self, subject: str) -> None:
        turn = _SOMETIME if subject == EVERYBODY else _NEXT
        for stream in list(self._watched.get(subject, ())):
            self._ask(stream, turn)

    async def _probe(self, nonce: str) -> None:
        await self._pool.run(mirror.probe_endings(nonce))

    def _schedule(self, stream: _Watched) -> None:
        """Spread, so that what was opened together is not checked together; never later than the interval."""
        loop = asyncio.get_running_loop()
        stream.timer = loop.call_later(self._interval * uniform(0.5, 1), self._ask, stream)

    def _ask(self, stream: _Watched, turn: int = _SOMETIME) -> None:
        """Has the stream checked; once, however many ask before it is its turn."""
        if turn < stream.turn:
            stream.turn = turn
            self._asked.put_nowait((turn, next(self._order), stream))

    async def _work(self) -> None:
        while True:
            _, _, stream = await self._asked.get()
            asked, stream.turn = stream.turn < _NEVER, _NEVER  # who asks from now on may know more than this check
            if asked and stream.timer is not None:
                await self._check(stream)

    async def _check(self, stream: _Watched) -> None:
        error = await self._find_refusal(stream.access)
        if stream.timer is None:  # it ended meanwhile
            return
        now = asyncio.get_running_loop().time()
        if error is None:
            stream.checked_at = now
        elif error.status < 500 or now - stream.checked_at > self._longest_unchecked:
            stream.end(error)
            return
        stream.timer.cancel()
        self._schedule(stream)

    async def _find_refusal(self, access: Scope) -> TenantryError | None:
        """What a new request would be answered now: from 500 on it is unknown whether it may enter."""
        now = asyncio.get_running_loop().time()
        if self._outage is not None and now < self._outage[0]:
            return self._outage[1]
        try:
            await self._confirm(access)
        except TenantryError as error:
            if error.status == 503:
                self._outage = now + _PAUSE_SECONDS, error
            return error
        except Exception as error:  # nobody else would hear of it, and no stream be checked any more
            log.error("the check of an open stream failed", exc_info=error)
            return CallRefused(detail=type(error).__name__)
        return None

    async def _confirm(self, access: Scope) -> None:
        if access.entered or access.context is not None:
            asked = replace(access, context=None)  # the app goes on using its own
            context = await self._pool.enter(asked)
            for rule in access.rules:
                _hold_to(rule, context)
            if access.error is None:
                access.context = context


def _hold_to(rule: Callable[[TenantContext], object], context: TenantContext) -> None:
    try:
        rule(context)
    except TenantryError:
        raise
    except Exception as error:
        raise PermissionDenied(detail=f"a rule raised {type(error).__name__}") from error


def close_code(error: TenantryError) -> int:
    """The code a websocket is closed with because of an error: RFC 6455, 7.4.1."""
    return _POLICY_VIOLATION if error.status < 500 else _INTERNAL_ERROR


class _Watched:
    """What stays open: ended by `end`, found by its subjects."""

    def __init__(self, streams: Streams, access: Scope, receive: Receive, send: Send) -> None:
        self.access = access
        self.turn = _NEVER
        self.checked_at = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.error: TenantryError | None = None
        self._streams = streams
        self._receive = receive
        self._send = send

    @property
    def subjects(self) -> set[str]:
        """What notices may call it: its user, organization and session."""
        identity = self.access.identity
        known = (identity.user_id, identity.org_id, identity.session_id) if identity else ()
        return {EVERYBODY, *map(subject_of, filter(None, known))}

    def end(self, error: TenantryError) -> None:
        """Ends it because of `error`, which every later transaction of the app raises too."""
        self._streams.forget(self)
        self.error = self.access.error = error
        log.info("%s: a stream was ended (%s in %s)", error.code, *reversed(self.access.key))
        self._interrupt()

    def _interrupt(self) -> None:
        raise NotImplementedError


class _Socket(_Watched):
    """A websocket: closed with 1008 and the error's code as reason."""

    _pending: asyncio.Timeout | None = None
    _closing: asyncio.Task[None] | None = None

    async def run(self, app: App, scope: Any) -> None:
        try:
            await app(scope, self.receive, self.send)
        finally:
            self._streams.forget(self)
            if self._closing is not None:
                await self._closing  # the server drops the connection when the app returns

    async def receive(self) -> Message:
        if self.error is None:
            message = await self._wait()
        if self.error is not None:
            return {"type": "websocket.disconnect", **_farewell(self.error)}
        return message

    async def _wait(self) -> Message:
        try:
            async with asyncio.timeout(None) as self._pending:
                return await self._receive()
        except TimeoutError:
            if self.error is None:
                raise
            return {}
        finally:
            self._pending = None

    async def send(self, message: Message) -> None:
        if self.error is not None:
            if message["type"] == "websocket.close":
                return  # it is closed already
            raise StreamEnded("Tenantry closed this websocket: its member's access has ended.")
        await self._send(message)
        if message["type"] == "websocket.accept":
            self._streams.watch(self)
        elif message["type"] == "websocket.close":
            self._streams.forget(self)

    def _interrupt(self) -> None:
        if self._pending is not None:
            self._pending.reschedule(0)
        self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        if self.error is not None:
            with suppress(OSError, RuntimeError):  # the client, or the app, was faster
                await self._send({"type": "websocket.close", **_farewell(self.error)})


def _farewell(error: TenantryError) -> Message:
    return {"code": close_code(error), "reason": error.code}


class _Response(_Watched):
    """A response: watched once its body has taken longer than a second, and then broken off.

    Server-sent events end as if the app had finished: the client connects again, and is refused. Any other body breaks,
    so that half a download never passes for a whole one.
    """

    _start: Message | None = None
    _cancelling = 0

    async def run(self, app: App, scope: Any) -> None:
        self._task = asyncio.current_task()
        try:
            await app(scope, self._receive, self.send)
        except (asyncio.CancelledError, StreamEnded):
            if self.error is None:
                raise
        finally:
            self._streams.forget(self)
        if self.error is not None:
            if self._task is not None and self._task.uncancel() > self._cancelling:
                raise asyncio.CancelledError  # somebody else wants the task to end as well
            await self._break_off(self.error)

    async def send(self, message: Message) -> None:
        if self.error is not None:
            raise StreamEnded("Tenantry ended this response: its member's access has ended.")
        if message["type"] == "http.response.start":
            self._start = message
        elif not message.get("more_body"):
            self._streams.forget(self)
        elif self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(_SHORT_SECONDS, self._streams.watch, self)
        await self._send(message)

    def _interrupt(self) -> None:
        if self._task is not None:
            self._cancelling = self._task.cancelling()
            self._task.cancel()

    async def _break_off(self, error: TenantryError) -> None:
        headers = self._start.get("headers", ()) if self._start else ()
        if any(name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers):
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            raise error
