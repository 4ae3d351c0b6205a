"""Tenantry's own connections in a running app, over asyncpg: webhooks, provisioning, checks of who is asking.

A few are enough. None is reset on its way back, since everything the functions set ends with their transaction.
Behind a pooler that hands each transaction to another server connection, no statement is kept prepared: a name would
there stand for whatever another client prepared under it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

import asyncpg

from tenantry import mirror
from tenantry.context import current_scope
from tenantry.errors import CallRefused, DatabaseUnavailable, NotProvisioned, TenantryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenantry.context import Scope, TenantContext
    from tenantry.mirror import Call, Outcome
    from tenantry.webhooks import Delivery

log = logging.getLogger("tenantry")

TIMEOUT_SECONDS = 10
SIZE = 4
_NOTED_SECONDS = 3  # a call that takes longer waits for somebody, most likely

# The sessions that calls of this login wait for, and that wait for nobody themselves.
_HOLDERS = """
with recursive waiting as materialized (
  select a.pid from pg_stat_activity as a
  where a.datname = current_database() and a.usename = current_user
    and a.application_name = 'tenantry' and a.wait_event_type = 'Lock'
), held(pid) as (
  select pid from waiting union select unnest(pg_blocking_pids(held.pid)) from held
)
select h.pid, a.application_name, a.usename::text
from held as h join pg_stat_activity as a on a.pid = h.pid
where h.pid not in (select pid from waiting) and pg_blocking_pids(h.pid) = '{}'
"""

# What asyncpg raises where the server is away, or refuses.
FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# Classes of SQLSTATE that say nothing about the call: connection, login, database, resources, shutdown, system.
_OUTAGES = ("08", "28", "3D", "53", "57", "58")
# What asyncpg reads from a URL itself. Whatever else libpq knows (`channel_binding`, `connect_timeout`) it would send
# to the server as a setting, which refuses the connection.
_KNOWN_TO_ASYNCPG = {
    *("host", "port", "dbname", "user", "password", "passfile", "service", "target_session_attrs", "options"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib"),
}


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    def get_reset_query(self) -> str:
        return ""


class Pool:
    """Runs calls, each in a transaction of its own, between `open` and `close`. `timeout`: seconds a call may take."""

    def __init__(self, url: str, *, size: int = SIZE, timeout: float = TIMEOUT_SECONDS) -> None:
        self._url = without_libpq_options(url)
        self._size = size
        self._timeout = timeout
        self._pool: asyncpg.Pool[Any] | None = None

    async def open(self) -> None:
        """Connects. Raises DatabaseUnavailable."""
        options: dict[str, Any] = {
            "timeout": self._timeout,
            "command_timeout": self._timeout,
            "connection_class": _Connection,
            "server_settings": {"application_name": "tenantry"},
        }
        try:
            if await _is_pooled(self._url, options):
                options["statement_cache_size"] = 0
            self._pool = await asyncpg.create_pool(self._url, min_size=1, max_size=self._size, **options)
        except FAILURES as error:
            raise _explain(error) from None

    async def close(self) -> None:
        """Lets running calls finish, for as long as a call may take."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                await asyncio.wait_for(pool.close(), self._timeout)
            except TimeoutError:
                pool.terminate()

    async def run(self, call: Call) -> str:
        """What the function answered, as JSON text. Raises what it raised, DatabaseUnavailable, or CallRefused."""
        if self._pool is None:
            raise _not_open()
        try:
            async with asyncio.timeout(self._timeout):  # asyncpg's own makes a task of every acquisition
                connection = await self._pool.acquire()
            try:
                with self._noting_holders():
                    return str(await connection.fetchval(call.dollar, *call.arguments))
            finally:
                await self._pool.release(connection, timeout=self._timeout)
        except FAILURES as error:
            raise mirror.read_error(error) or _explain(error) from None

    @contextmanager
    def _noting_holders(self) -> Iterator[None]:
        """Has the log say for whom a call waits that takes long: once it is given up, nobody can tell any more."""
        looking: list[asyncio.Task[None]] = []
        timer = asyncio.get_running_loop().call_later(
            _NOTED_SECONDS, lambda: looking.append(asyncio.create_task(_note_holders(self._url)))
        )
        try:
            yield
        finally:
            timer.cancel()
            for task in looking:
                task.cancel()

    @asynccontextmanager
    async def hold(self, call: Call) -> AsyncIterator[str]:
        """What the function answered, in a transaction that stays open until the block ends: for the locks it took."""
        if self._pool is None:
            raise _not_open()
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._pool.acquire()
        except FAILURES as error:
            raise _explain(error) from None
        transaction = connection.transaction()
        try:
            try:
                await transaction.start()
                answer = str(await connection.fetchval(call.dollar, *call.arguments))
            except FAILURES as error:
                raise mirror.read_error(error) or _explain(error) from None
            yield answer
        finally:
            with suppress(*FAILURES):
                await transaction.rollback()
            with suppress(*FAILURES):
                await self._pool.release(connection, timeout=self._timeout)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A transaction of the running scope: committed at the end, rolled back on an error."""
        if self._pool is None:
            raise _not_open()
        scope = current_scope()
        entry = scope.enter()
        async with self._pool.acquire() as connection, connection.transaction():
            scope.admit(await connection.fetchval(entry.dollar, *entry.arguments))
            yield

    async def record(self, deliveries: Sequence[Delivery], *, keep_private_metadata: bool = False) -> list[Outcome]:
        """Records deliveries, all or none."""
        call = mirror.record_events(deliveries, keep_private_metadata=keep_private_metadata)
        return mirror.read_outcomes(await self.run(call))

    async def enter(self, scope: Scope) -> TenantContext:
        """The tenant of a scope, as the database decides now; an unknown one is made known first."""
        entry = scope.enter()
        scope.context = None  # of the time before: a refusal must not leave it standing
        try:
            return scope.admit(await self.run(entry))
        except NotProvisioned:
            if scope.provision is None:
                raise
            await self.run(scope.provision)
            return scope.admit(await self.run(entry))


async def _note_holders(url: str) -> None:
    """Over a connection of its own: those of the pool may all be waiting."""
    with suppress(*FAILURES):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            connection = await asyncpg.connect(url, statement_cache_size=0)
            try:
                while not (holders := await connection.fetch(_HOLDERS)):  # noqa: ASYNC110  nobody tells of it
                    await asyncio.sleep(_NOTED_SECONDS)
            finally:
                await connection.close(timeout=_NOTED_SECONDS)
        for pid, program, login in holders:
            log.warning(
                "a call waits for what session %s (%s, %s) holds. "
                "Next: end its transaction there, or select pg_terminate_backend(%s)",
                *(pid, program, login, pid),
            )


def _not_open() -> DatabaseUnavailable:
    return DatabaseUnavailable(
        "Tenantry has no database connection.",
        hint="Give the app `lifespan=tenancy.lifespan`, or enter it inside your own.",
    )


async def _is_pooled(url: str, options: dict[str, Any]) -> bool:
    """Whether a pooler answers at this URL: the process it names for cancelling is none of the server's."""
    connection = await asyncpg.connect(url, **options, statement_cache_size=0)
    try:
        return bool(await connection.fetchval("select pg_backend_pid()") != connection.get_server_pid())
    finally:
        await connection.close()


def _explain(error: BaseException) -> TenantryError:
    sqlstate: str | None = getattr(error, "sqlstate", None)
    detail = f"{type(error).__name__}{f' ({sqlstate})' if sqlstate else ''}"
    if sqlstate is None or sqlstate.startswith(_OUTAGES):
        return DatabaseUnavailable(detail=detail)
    return CallRefused(detail=detail)


def without_libpq_options(url: str) -> str:
    """A PostgreSQL URL as asyncpg reads it."""
    address, _, query = url.partition("?")
    known = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name in _KNOWN_TO_ASYNCPG]
    return f"{address}?{urlencode(known, quote_via=quote)}" if known else address
