"""Hears from the database whose access may have ended, or that something changed: a connection that LISTENs, reopened
when it breaks.

A notice of ended access is a hint to ask again, and nothing more: it names a user, an organization or a session, by the
sha256 of Clerk's id (`subject_of`), or says `*` for everybody. Whether notices arrive is proved at every connection by
a probe sent over another one, since a pooler may accept LISTEN and never deliver. While they do not arrive, whoever
waits for them must ask at an interval.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from random import uniform
from typing import Any

import asyncpg

from tenantry.errors import TenantryError
from tenantry.pool import FAILURES, without_libpq_options

log = logging.getLogger("tenantry")

EVERYBODY = "*"
ENDINGS = "tenantry_endings"  # probes too
_PROBE = "probe "
_TIMEOUT_SECONDS = 10  # for the server to answer, or a probe to arrive
_HEARTBEAT_SECONDS = 30  # a connection that died without a word is found out by then
_LONGEST_PAUSE = 30  # between attempts to connect


def subject_of(clerk_id: str) -> str:
    """How a notice names an object of Clerk's; the database's `tell_endings` does the same."""
    return sha256(clerk_id.encode()).hexdigest()


class Notices:
    """Calls `heard` with the subject of each notice, and with `*` once they arrive again after a time they did not.

    `probe` sends the nonce it is given to every listener, over a connection of its own. `purpose` and `remedy` say in
    the log what does not arrive, and what happens instead.
    """

    def __init__(
        self,
        url: str,
        *,
        heard: Callable[[str], None],
        probe: Callable[[str], Awaitable[Any]],
        channel: str = ENDINGS,
        purpose: str = "notices of ended access",
        remedy: str = "open streams are checked at their interval alone",
    ) -> None:
        self._url = without_libpq_options(url)
        self._channel = channel
        self._purpose = purpose
        self._remedy = remedy
        self._heard = heard
        self._probe = probe
        self._arrived: tuple[str, asyncio.Event] = ("", asyncio.Event())
        self._task: asyncio.Task[None] | None = None
        self._warned = False
        self.arriving = False

    def start(self) -> None:
        """Begins to listen, unless it has begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._listen())

    async def close(self) -> None:
        """Stops listening."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _listen(self) -> None:
        pause = 1.0
        while True:
            try:
                await self._stay_connected()
            except (*FAILURES, TenantryError) as error:
                self._warn(error)
            pause = 1.0 if self.arriving else min(pause * 2, _LONGEST_PAUSE)
            self.arriving = False
            await asyncio.sleep(uniform(0.5, 1) * pause)

    async def _stay_connected(self) -> None:
        """Returns or raises when the connection is lost."""
        connection = await asyncpg.connect(
            self._url,
            timeout=_TIMEOUT_SECONDS,
            command_timeout=_TIMEOUT_SECONDS,
            statement_cache_size=0,
            server_settings={"application_name": "tenantry notices"},
        )
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda *_: lost.set())
            for channel in {ENDINGS, self._channel}:
                await connection.add_listener(channel, self._receive)
            await self._prove_arrival()
            while not await _happens(lost, _HEARTBEAT_SECONDS):
                await connection.execute("select 1")
            raise ConnectionResetError("the connection was lost")
        finally:
            connection.terminate()

    async def _prove_arrival(self) -> None:
        nonce, arrived = self._arrived = secrets.token_hex(16), asyncio.Event()
        await self._probe(nonce)
        if not await _happens(arrived, _TIMEOUT_SECONDS):
            raise TimeoutError("a probe did not arrive")
        self.arriving = True
        if self._warned:
            log.info("%s arrive again", self._purpose)
            self._warned = False
        self._heard(EVERYBODY)  # what was said before is not known

    def _receive(self, connection: object, pid: int, channel: str, payload: object) -> None:
        subject = str(payload)
        if not subject.startswith(_PROBE):
            if channel == self._channel:
                self._heard(subject)
        elif subject.removeprefix(_PROBE) == self._arrived[0]:
            self._arrived[1].set()

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            log.warning(
                "%s do not arrive (%s): %s. "
                "Where a pooler stands before the database, set TENANTRY_LISTEN_URL to the database itself.",
                *(self._purpose, type(error).__name__, self._remedy),
            )
            self._warned = True


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether it does within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
