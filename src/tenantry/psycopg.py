"""psycopg pools, sync and async, whose transactions are each in one tenant: the running scope's.

The call that enters the tenant travels with BEGIN, in one round trip; a single statement takes the whole transaction
along, COMMIT included. For that, the transaction is begun by hand, on a connection in autocommit mode until it ends.
All the call sets is local to the transaction, so the connection goes back to the pool as it came.

There is one path, written as coroutines: over a sync pool nothing in them ever waits, and `_finish` runs them through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor, IsolationLevel
from psycopg.rows import tuple_row

from tenantry import mirror
from tenantry.context import Scope, current_scope
from tenantry.errors import TAINTED, InvalidArgument, NotProvisioned, TenantryError

if TYPE_CHECKING:
    from psycopg.abc import Params, Query
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from tenantry.mirror import Call

_Row = TypeVar("_Row")
_T = TypeVar("_T")
_Statement: TypeAlias = "tuple[Any, Query, Params | Sequence[str | None] | None]"  # a cursor, and what it executes


@overload
def scoped(pool: ConnectionPool[Connection[_Row]]) -> ScopedPool[_Row]: ...
@overload
def scoped(pool: AsyncConnectionPool[AsyncConnection[_Row]]) -> AsyncScopedPool[_Row]: ...
def scoped(pool: Any) -> Any:
    """What `pool` can do, in the tenant of whoever runs it."""
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    if not isinstance(pool, (AsyncConnectionPool, ConnectionPool)):
        raise InvalidArgument(f"A {type(pool).__name__} is no pool of psycopg_pool.")
    return AsyncScopedPool(pool) if isinstance(pool, AsyncConnectionPool) else ScopedPool(pool)


class AsyncScopedPool(Generic[_Row]):
    """Transactions and single statements over a pool of yours, all in the running scope's tenant.

    Raises NoTenant where there is none, and what refuses the user (NotAMember, OrganizationDeleted, …), before a
    statement of yours is run; whatever else goes wrong is psycopg's own error.
    """

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[_Row]]) -> None:
        self._pool = pool

    def transaction(
        self,
        *,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
    ) -> AbstractAsyncContextManager[AsyncConnection[_Row]]:
        """psycopg's connection, in a transaction: committed at the end, rolled back on an error.

        Options that are None are the connection's own. `connection.transaction()` inside is a savepoint.
        """
        return _transaction(self._pool, isolation_level, read_only, deferrable)

    async def execute(self, query: Query, params: Params | None = None) -> int:
        """Runs a statement in a transaction of its own, in one round trip; how many rows it wrote or found."""
        count: int = await _run(self._pool, query, params, _rowcount)
        return count

    async def fetchone(self, query: Query, params: Params | None = None) -> _Row | None:
        """The first row, as the pool's row factory makes it, or None. One round trip."""
        row: _Row | None = await _run(self._pool, query, params, _fetchone)
        return row

    async def fetchall(self, query: Query, params: Params | None = None) -> list[_Row]:
        """All rows, as the pool's row factory makes them. One round trip."""
        rows: list[_Row] = await _run(self._pool, query, params, _fetchall)
        return rows


class ScopedPool(Generic[_Row]):
    """As AsyncScopedPool, for code that blocks."""

    def __init__(self, pool: ConnectionPool[Connection[_Row]]) -> None:
        self._pool = pool

    @contextmanager
    def transaction(
        self,
        *,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
    ) -> Iterator[Connection[_Row]]:
        manager = _transaction(self._pool, isolation_level, read_only, deferrable)
        connection = _finish(manager.__aenter__())
        try:
            yield connection
        except BaseException as error:
            if not _finish(manager.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            _finish(manager.__aexit__(None, None, None))

    def execute(self, query: Query, params: Params | None = None) -> int:
        count: int = _finish(_run(self._pool, query, params, _rowcount))
        return count

    def fetchone(self, query: Query, params: Params | None = None) -> _Row | None:
        row: _Row | None = _finish(_run(self._pool, query, params, _fetchone))
        return row

    def fetchall(self, query: Query, params: Params | None = None) -> list[_Row]:
        rows: list[_Row] = _finish(_run(self._pool, query, params, _fetchall))
        return rows


# --- transactions -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _transaction(
    pool: Any, isolation_level: IsolationLevel | None, read_only: bool | None, deferrable: bool | None
) -> AsyncIterator[Any]:
    scope = current_scope()
    scope.enter()  # raises, before a connection is taken
    async with _either(pool.connection()) as connection, _begun_by_hand(connection):
        await _begin(connection, scope, _opening(connection, isolation_level, read_only, deferrable))
        yield connection


async def _run(pool: Any, query: Query, params: Params | None, answer: Callable[[Any], Any]) -> Any:
    scope = current_scope()
    scope.enter()
    async with _either(pool.connection()) as connection, _begun_by_hand(connection):
        cursor = connection.cursor()
        await _begin(connection, scope, _opening(connection), (cursor, query, params))
        return await _settle(answer(cursor))


def _rowcount(cursor: Any) -> Any:
    return cursor.rowcount


def _fetchone(cursor: Any) -> Any:
    return cursor.fetchone() if cursor.description else None  # what it did is committed: too late for an error


def _fetchall(cursor: Any) -> Any:
    return cursor.fetchall() if cursor.description else []


@asynccontextmanager
async def _begun_by_hand(connection: Any) -> AsyncIterator[None]:
    """psycopg would send a BEGIN of its own, and wait for it. Ends the transaction, and gives the mode back."""
    automatic = connection.autocommit
    await _settle(connection.set_autocommit(True))
    try:
        yield
        await _settle(connection.commit())
    except BaseException:
        with suppress(psycopg.Error):
            await _settle(connection.rollback())
        raise
    finally:
        try:
            await _settle(connection.set_autocommit(automatic))
        except psycopg.Error:
            connection.pgconn.finish()  # lost, or still in the transaction: the pool replaces it


async def _begin(connection: Any, scope: Scope, opening: bytes, statement: _Statement | None = None) -> None:
    """Enters the scope's tenant; an unknown one is made known first, in a transaction of its own."""
    try:
        await _enter(connection, scope, opening, statement)
        return
    except NotProvisioned:
        if scope.provision is None:
            raise
    await _settle(connection.rollback())
    await _send(connection, b"BEGIN READ WRITE", scope.provision)
    await _settle(connection.commit())
    await _enter(connection, scope, opening, statement)


async def _enter(connection: Any, scope: Scope, opening: bytes, statement: _Statement | None) -> None:
    try:
        scope.admit(await _send(connection, opening, scope.enter(), statement))
    except TenantryError as refusal:
        scope.context = None  # of the transaction before: a refusal must not leave it standing
        if isinstance(refusal, TAINTED):
            connection.pgconn.finish()
        raise


async def _send(connection: Any, opening: bytes, call: Call, statement: _Statement | None = None) -> str:
    """Begins and calls, and runs and commits the statement, if there is one. What the call answered.

    All is sent before anything is read; past the first error PostgreSQL runs nothing of it.
    """
    asked = _own_cursor(connection)
    sent: list[_Statement] = [(_own_cursor(connection), opening, None), (asked, call.percent.encode(), call.arguments)]
    if statement is not None:
        sent += [statement, (_own_cursor(connection), b"COMMIT", None)]
    try:
        async with _pipeline(connection):
            for cursor, query, params in sent:
                await _settle(cursor.execute(query, params))
        return str((await _settle(asked.fetchone()))[0])
    except psycopg.Error as error:
        known = mirror.read_error(error) if asked.rowcount < 0 else None  # else the error is the statement's
        if known is not None:
            raise known from None
        raise


def _opening(
    connection: Any,
    isolation_level: IsolationLevel | None = None,
    read_only: bool | None = None,
    deferrable: bool | None = None,
) -> bytes:
    """BEGIN, with what is asked for or else what the connection is set to."""
    level = connection.isolation_level if isolation_level is None else isolation_level
    read_only = connection.read_only if read_only is None else read_only
    deferrable = connection.deferrable if deferrable is None else deferrable
    parts = ["BEGIN"]
    if level is not None:
        parts.append(f"ISOLATION LEVEL {IsolationLevel(level).name.replace('_', ' ')}")
    if read_only is not None:
        parts.append("READ ONLY" if read_only else "READ WRITE")
    if deferrable is not None:
        parts.append("DEFERRABLE" if deferrable else "NOT DEFERRABLE")
    return " ".join(parts).encode()


def _own_cursor(connection: Any) -> Any:
    """One that neither the pool's row factory nor its cursor factory has a say in."""
    kind: Any = AsyncCursor if isinstance(connection, AsyncConnection) else Cursor
    return kind(connection, row_factory=tuple_row)


# --- one path for sync and async --------------------------------------------------------------------------------------


@asynccontextmanager
async def _pipeline(connection: Any) -> AsyncIterator[None]:
    """Where libpq is too old to pipeline (before 14), statements are sent one by one."""
    if not psycopg.Pipeline.is_supported():
        yield
        return
    async with _either(connection.pipeline()) as pipeline:
        try:
            yield
        except psycopg.Error:
            with suppress(psycopg.Error):  # of what follows the first error; psycopg would log it as a warning
                await _settle(pipeline.sync())
            raise


@asynccontextmanager
async def _either(manager: Any) -> AsyncIterator[Any]:
    if hasattr(manager, "__aenter__"):
        async with manager as entered:
            yield entered
    else:
        with manager as entered:
            yield entered


async def _settle(value: Any) -> Any:
    return await value if isawaitable(value) else value


def _finish(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    raise RuntimeError("a sync pool made its caller wait")
