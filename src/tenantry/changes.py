"""The change feed's consumers: handlers that are told what changed in the mirror, in order and one change at a time.

Theory of operation
-------------------
A consumer is a row: a name, and the position of the last change it has dealt with. Telling its handler of a change is
one transaction, on the app's own session or connection. `enter_change_v1` begins it: it locks the row, moves it from
the position before to this change's, and enters the tenant that the change concerns. Then the handler runs, then all of
it commits. The move and what the handler wrote become true together or not at all, wherever it crashes.

Whoever finds the row locked, or not where it was read to be, leaves it alone. That keeps two workers from one change,
without a leader, a session's lock or a clock, and so behind a pooler too. A worker that dies loses its connection, the
server rolls back, and the others, who look again a few times a second while somebody is at it, take over.

A handler has a limit of time. Past it an async one is cancelled. A thread cannot be: it may go on, but not commit, and
where it does nothing any more the server ends its transaction, so that the consumer is not held up. A thread without a
transaction is not called again before it has ended: what is due meanwhile counts as failed.

A failed attempt has left nothing. It is counted in a transaction of its own; the next comes after a pause that doubles,
and after the last the consumer is parked, until a person resumes it or skips the change. Others are not concerned.

Nobody is told by the transaction that writes changes: commits that notify wait for each other. After the commit the
`Announcer` has the changes placed, a few times a second at most, and that commit notifies. Who misses it asks every
other second.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from random import uniform
from threading import Event
from typing import Any, Literal, TypeAlias
from uuid import UUID

from tenantry import mirror
from tenantry.context import Scope, use_scope
from tenantry.errors import ConfigurationError, ConsumerTaken, HandlerTooSlow, NoTenant, TenantryError
from tenantry.handlers import HandlerThread, parameters, waits
from tenantry.mirror import Call

log = logging.getLogger("tenantry")

Run: TypeAlias = Callable[[Call], Awaitable[str]]
Begin: TypeAlias = Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]]
Start: TypeAlias = Literal["now", "beginning"]

CHANNEL = "tenantry_changes"
KINDS = frozenset(
    [f"{subject}.{verb}" for subject in ("tenant", "user", "domain", "role", "permission", "invitation")
     for verb in ("created", "updated", "deleted")]
    + [f"invitation.{verb}" for verb in ("accepted", "revoked")]
    + [f"member.{verb}" for verb in ("joined", "left", "role_changed", "updated")]
)  # fmt: skip
_PATTERNS = KINDS | {f"{kind.partition('.')[0]}.*" for kind in KINDS} | {"*"}

ATTEMPTS = 10  # the last is about nine minutes after the first
BACKOFF_SECONDS = 1.0
HANDLER_SECONDS = 30.0
POLL_SECONDS = 2.0
_BUSY_SECONDS = 0.4  # before asking again for a consumer that somebody else is at
_OUTAGE_SECONDS = 5.0
_SPACING_SECONDS = 0.05  # between two announcements
_UNREAD_SECONDS = 1.0  # the same while there are no consumers
_GRACE_SECONDS = 10.0  # for a handler to finish when the app stops
_PAGE = 200
_DAY_SECONDS = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What really changed, once: docs/changes.md says which kinds there are.

    `object_id` is Clerk's (of a member, the membership's); `before` and `after` are the content, None where there was
    or is none; `cause` is webhook, reconcile or token.
    """

    pos: int
    kind: str
    object_id: str
    tenant_id: UUID | None
    user_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    cause: str
    message_id: str | None
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A handler, by which name its position is kept, and what it takes: (change) or (change, session).

    `timeout`: the seconds it has for a change.
    """

    name: str
    kinds: tuple[str, ...]
    start: Start
    handler: Callable[..., Any]
    using: Any = None
    timeout: float = HANDLER_SECONDS

    @property
    def waits(self) -> bool:
        """Whether the handler is a coroutine function; one that is not runs in a thread."""
        return waits(self.handler)

    @property
    def takes_handle(self) -> bool:
        """Whether the handler writes through a session or connection it is given."""
        return len(parameters(self.handler)) == 2


def make_consumer(
    handler: Callable[..., Any],
    kinds: Iterable[str],
    *,
    name: str | None = None,
    start: Start = "now",
    using: Any = None,
    timeout: float = HANDLER_SECONDS,
) -> Consumer:
    """Raises ConfigurationError for kinds that never come, for no start, no timeout, and a handler nobody can call."""
    wanted = check_kinds(kinds)
    if start not in ("now", "beginning"):
        raise ConfigurationError(f"A consumer cannot start from {start!r}.", hint="Write now or beginning.")
    if not 0 < timeout <= _DAY_SECONDS:
        raise ConfigurationError(f"A handler cannot have {timeout} seconds.", hint="Write 30, or at most a day's.")
    name = name or getattr(handler, "__name__", "")
    if not name or not name.isprintable() or len(name) > 200 or name == "<lambda>":
        raise ConfigurationError("A handler has no name to keep its position by.", hint="Write on(..., name='…').")
    taken = parameters(handler)
    if len(taken) not in (1, 2) or any(one.kind is one.KEYWORD_ONLY for one in taken):
        raise ConfigurationError(
            f"The handler {name} takes {', '.join(one.name for one in taken) or 'nothing'}.",
            hint="It takes the change, or the change and a session.",
        )
    return Consumer(name=name, kinds=wanted, start=start, handler=handler, using=using, timeout=timeout)


def check_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """The kinds and patterns, once each. Raises ConfigurationError for one that never comes, and for none at all."""
    wanted = tuple(dict.fromkeys(kinds))
    unknown = sorted(set(wanted) - _PATTERNS)
    if unknown or not wanted:
        raise ConfigurationError(
            f"The feed has no changes of the kind {', '.join(unknown)}."
            if unknown
            else "This is for no kind of change.",
            hint=f"The kinds are {', '.join(sorted(KINDS))}; member.* is all of a subject, * all.",
        )
    return wanted


def is_of_kinds(kind: str, kinds: Iterable[str]) -> bool:
    """Whether a kind of change is among these, as the database's is_of_kinds has it."""
    return not {kind, f"{kind.partition('.')[0]}.*", "*"}.isdisjoint(kinds)


def read_change(told: dict[str, Any]) -> Change:
    """A `Change` from the JSON of the feed."""
    known = {one.name: told[one.name] for one in fields(Change)}
    known["tenant_id"] = UUID(told["tenant_id"]) if told["tenant_id"] else None
    known["at"] = datetime.fromisoformat(told["at"])
    return Change(**known)


class Feed:
    """Tells consumers of their changes, between `start` and `close`. `run` runs a call in a transaction of its own."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._workers: list[_Worker] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, consumers: Iterable[tuple[Consumer, Begin]]) -> None:
        """Makes consumers known, and begins to tell them. `begin` opens the transaction of a change.

        What `begin` gives enters the running scope's tenant. Raises DatabaseUnavailable.
        """
        self._workers = [_Worker(self._run, consumer, begin) for consumer, begin in consumers]
        for worker in self._workers:
            await worker.add()
        self._tasks = [asyncio.create_task(worker.work()) for worker in self._workers]
        if self._workers:
            self._tasks.append(asyncio.create_task(self._poll()))

    def wake(self) -> None:
        """There may be something to tell."""
        for worker in self._workers:
            worker.woken.set()

    async def close(self) -> None:
        """Begins nothing more, and waits some seconds for handlers to finish; what is not done then is rolled back."""
        tasks, self._tasks = self._tasks, []
        for worker in self._workers:
            worker.stopping = True
        self.wake()
        if tasks:
            tasks[-1].cancel()  # it polls
            await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(uniform(0.5, 1) * POLL_SECONDS)
            with suppress(TenantryError):  # who reads says so
                await self._run(mirror.announce_changes())
            self.wake()


class Announcer:
    """Has what was committed placed in the feed and told, soon after `announce`; calls that come together share one."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._due = False
        self._task: asyncio.Task[None] | None = None

    def announce(self) -> None:
        """After a commit that may have written changes. Returns at once."""
        self._due = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Gives up what is under way: readers ask at an interval too."""
        task, self._task = self._task, None  # an app may live again, in another event loop
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self) -> None:
        while self._due:
            self._due = False
            try:
                told = mirror.decode(await self._run(mirror.announce_changes()))
            except TenantryError:
                return
            self._due = self._due or told.get("busy", False)
            await asyncio.sleep(_SPACING_SECONDS if told["consumers"] else _UNREAD_SECONDS)


class _Turn(Scope):
    """Enters the transaction in which a change is dealt with: the first to begin moves the consumer, others do not."""

    def __init__(self, consumer: Consumer, change: Change, after: int) -> None:
        tenant_id = change.tenant_id
        super().__init__(
            key=(str(tenant_id) if tenant_id else None, None),
            entry=mirror.enter_change(consumer.name, change.pos, after, seconds=consumer.timeout),
        )
        reason = f"change {change.pos} for consumer {consumer.name}"
        self._later = mirror.set_tenant_by_id(tenant_id, reason, None) if tenant_id else mirror.no_tenant()

    def admit(self, answer: str) -> Any:
        if self.entered:
            return super().admit(answer)
        told = mirror.decode(answer)
        if told["taken"]:
            raise ConsumerTaken
        self.entry, self.entered = self._later, True
        return super().admit(mirror.encode(told["context"])) if told["context"] else None


class _Worker:
    """Tells one consumer, in one process."""

    def __init__(self, run: Run, consumer: Consumer, begin: Begin) -> None:
        self._run = run
        self._consumer = consumer
        self._begin = begin
        self._told = 0  # the last change told here, as far as its handler says
        self._warned = False
        self._thread: HandlerThread | None = None
        self.woken = asyncio.Event()
        self.stopping = False

    async def add(self) -> None:
        one = self._consumer
        await self._run(mirror.add_consumer(one.name, one.kinds, one.start))

    async def work(self) -> None:
        while not self.stopping:
            self.woken.clear()
            try:
                pause = await self._catch_up()
                self._warned = False
            except ConsumerTaken:
                pause = uniform(0.5, 1) * _BUSY_SECONDS
            except Exception as error:  # noqa: BLE001  a database that is away, or the app's pool: nobody else hears of it
                self._warn(error)
                pause = _OUTAGE_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.woken.wait()

    async def _catch_up(self) -> float | None:
        """Tells all there is; after how many seconds to look again, unless woken before."""
        one = self._consumer
        more = True
        while more and not self.stopping:
            read = mirror.decode(await self._run(mirror.read_consumer(one.name, one.kinds, _PAGE)))
            if read["state"] == "absent":
                self._told = 0
                await self.add()
                continue
            if read["pos"] < self._told:
                return await self._fail(self._told, _UNDONE)
            if read["state"] == "busy":
                raise ConsumerTaken
            if read["state"] != "ready":
                return float(read["retry_in"]) if read["state"] == "waiting" else None
            pause = await self._tell_all([read_change(told) for told in read["changes"]], read["pos"], read["reached"])
            if pause is not None:
                return pause
            more = read["more"]
        return None

    async def _tell_all(self, changes: list[Change], after: int, reached: int) -> float | None:
        for change in changes:
            if self.stopping:
                return None
            try:
                await self._tell(change, after)
            except _HandlerFailed as failed:
                return await self._fail(change.pos, failed.error)
            after = self._told = change.pos
        if reached > after:  # past what is of other kinds
            await self._run(mirror.advance_consumer(self._consumer.name, reached, after))
        return None

    async def _tell(self, change: Change, after: int) -> None:
        """The transaction of a change. Raises _HandlerFailed, or what kept the transaction from beginning."""
        turn = _Turn(self._consumer, change, after)
        try:
            with use_scope(turn):
                await self._call(change)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if not turn.entered or (task is not None and task.cancelling()):
                raise
            raise _HandlerFailed(_first_told(error)) from error
        finally:
            turn.error = NoTenant(
                "The change that this code was called for has been dealt with.",
                hint="Work that outlives a handler names its tenant: tenant_context(tenant_id, reason=…).",
            )

    async def _call(self, change: Change) -> None:
        one = self._consumer
        transaction = self._begin()
        if isinstance(transaction, AbstractContextManager):
            late = Event()
            try:
                await self._in_time(HandlerThread(self._call_blocking, transaction, change, late).run())
            finally:
                late.set()
            return
        async with transaction as handle:
            if one.waits:
                await self._in_time(one.handler(*((change, handle) if one.takes_handle else (change,))))
            else:
                await self._in_time(self._call_in_thread(change))

    async def _call_in_thread(self, change: Change) -> None:
        """Without a session: no end of a transaction stops it, so the next attempt waits for the one before."""
        if self._thread is not None and self._thread.alive:
            raise HandlerTooSlow("An earlier call of the handler has not ended yet.")
        self._thread = HandlerThread(self._consumer.handler, change)
        await self._thread.run()

    def _call_blocking(self, transaction: AbstractContextManager[Any], change: Change, late: Event) -> None:
        with transaction as handle:
            self._consumer.handler(change, handle)
            if late.is_set():  # and counted as a failure
                raise _too_slow(self._consumer.timeout)

    async def _in_time(self, work: Awaitable[None]) -> None:
        seconds = self._consumer.timeout
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        limit = asyncio.timeout_at(end)
        try:
            async with limit:
                await work
        except Exception as error:
            if limit.expired() or loop.time() > end:  # whatever it was: its transaction was ended meanwhile
                raise _too_slow(seconds) from (None if isinstance(error, TimeoutError) else error)
            raise
        if limit.expired() or loop.time() > end:  # it held up the event loop, or caught its own cancellation
            raise _too_slow(seconds)

    async def _fail(self, pos: int, error: BaseException) -> float:
        """Counts a failed attempt; seconds until the next may come."""
        one = self._consumer
        self._told = 0
        said = _describe(error, one.handler)
        call = mirror.fail_consumer(one.name, pos, said, attempts=ATTEMPTS, backoff=BACKOFF_SECONDS)
        told = mirror.decode(await self._run(call))
        patience = one.timeout + _OUTAGE_SECONDS if isinstance(error, HandlerTooSlow) else 0
        while not told["attempts"] and patience > 0:  # its thread is still in the transaction
            await asyncio.sleep(_BUSY_SECONDS)
            patience -= _BUSY_SECONDS
            told = mirror.decode(await self._run(call))
        if told["parked"]:
            log.error(
                "the consumer %r is parked: its handler failed %d times at change %d. Next: tenantry changes list",
                *(one.name, told["attempts"], pos),
                exc_info=error,
            )
        else:
            log.warning(
                "the handler of %r failed at change %d, attempt %d", one.name, pos, told["attempts"], exc_info=error
            )
        return 0

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            log.warning("the consumer %r cannot be told (%s): trying again", self._consumer.name, type(error).__name__)
            self._warned = True


def _too_slow(seconds: float) -> HandlerTooSlow:
    return HandlerTooSlow(f"The handler took longer than {seconds:g} seconds.")


def _first_told(error: BaseException) -> BaseException:
    """The error itself, or that the handler took too long, where what was under way failed to roll back besides."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, HandlerTooSlow):
        cause = cause.__context__
    return cause or error


class _HandlerFailed(Exception):
    def __init__(self, error: BaseException) -> None:
        self.error = error


_UNDONE = ConfigurationError(
    "The handler ended without an error, and its transaction was not committed.",
    hint="A handler leaves commit and rollback to whoever calls it, and raises to undo what it did.",
)


def _describe(error: BaseException, handler: Callable[..., Any]) -> str:
    """What kind of error it is, and where it was raised. Its sentence may quote data: the app's log alone has it."""
    if isinstance(error, TenantryError):
        return f"{error.code}: {error.message}"
    file = getattr(getattr(inspect.unwrap(handler), "__code__", None), "co_filename", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f" in line {lines[-1]} of {Path(file).name}" if file and lines else ""
    sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None)
    return f"{type(error).__name__}{f' ({sqlstate})' if sqlstate else ''}{place}"
