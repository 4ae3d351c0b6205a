"""asyncpg pools whose transactions are each in one tenant: the running scope's, entered as the transaction begins.

All that the entering call sets is local to the transaction, so the connection goes back to the pool as it came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.transaction import Transaction

from tenantry import mirror
from tenantry.context import Scope, current_scope
from tenantry.errors import TAINTED, InvalidArgument, NotProvisioned


def scoped(pool: asyncpg.Pool) -> ScopedPool:
    """What `pool` can do, in the tenant of whoever runs it."""
    if not isinstance(pool, asyncpg.Pool):
        raise InvalidArgument(f"A {type(pool).__name__} is no pool of asyncpg.", hint="Await create_pool() first.")
    return ScopedPool(pool)


class ScopedPool:
    """Transactions and single statements over a pool of yours, all in the running scope's tenant.

    Raises NoTenant where there is none, and what refuses the user (NotAMember, OrganizationDeleted, …), before a
    statement of yours is sent; whatever else goes wrong is asyncpg's own error. Arguments are those of asyncpg's pool.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> AsyncIterator[Any]:
        """asyncpg's connection, in a transaction: committed at the end, rolled back on an error. Options as asyncpg's.

        `connection.transaction()` inside is a savepoint.
        """
        scope = current_scope()
        scope.enter()  # raises, before a connection is taken
        options = {"isolation": isolation, "readonly": readonly, "deferrable": deferrable}
        async with self._pool.acquire() as connection, await _begin(connection, scope, options):
            yield connection

    async def execute(self, query: str, *args: object, **options: Any) -> str:
        """Runs a statement in a transaction of its own; its status, such as `UPDATE 1`."""
        async with self.transaction() as connection:
            return str(await connection.execute(query, *args, **options))

    async def executemany(self, query: str, args: Any, **options: Any) -> None:
        """Runs a statement for each of `args`, all in one transaction."""
        async with self.transaction() as connection:
            await connection.executemany(query, args, **options)

    async def fetch(self, query: str, *args: object, **options: Any) -> list[asyncpg.Record]:
        """All rows of a statement in a transaction of its own."""
        async with self.transaction() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *args, **options)
            return rows

    async def fetchrow(self, query: str, *args: object, **options: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        async with self.transaction() as connection:
            return await connection.fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: object, **options: Any) -> Any:
        """A column of the first row, or None."""
        async with self.transaction() as connection:
            return await connection.fetchval(query, *args, **options)


async def _begin(connection: Any, scope: Scope, options: dict[str, Any]) -> AsyncExitStack:
    """A transaction in the scope's tenant; leaving what it answers ends it."""
    try:
        # A request that knows its tenant needs no answer, only the decision. A job may run for long: it asks again.
        if scope.context is not None and scope.identity is not None:
            return await _begin_at_once(connection, scope, options)
        return await _begin_and_ask(connection, scope, options)
    except asyncpg.PostgresError as error:
        refusal = mirror.read_error(error)
        if refusal is None:
            raise
        scope.context = None  # of the transaction before: a refusal must not leave it standing
        if isinstance(refusal, TAINTED):
            connection.terminate()
        raise refusal from None


async def _begin_and_ask(connection: Any, scope: Scope, options: dict[str, Any]) -> AsyncExitStack:
    try:
        return await _enter(connection, scope, options)
    except asyncpg.PostgresError as error:
        if scope.provision is None or not isinstance(mirror.read_error(error), NotProvisioned):
            raise
    async with connection.transaction():
        await connection.execute("set transaction read write")  # a session may be read only by default
        await connection.fetchval(scope.provision.dollar, *scope.provision.arguments)
    return await _enter(connection, scope, options)


async def _enter(connection: Any, scope: Scope, options: dict[str, Any]) -> AsyncExitStack:
    entry = scope.enter()
    async with AsyncExitStack() as begun:
        await begun.enter_async_context(connection.transaction(**options))
        scope.admit(await connection.fetchval(entry.dollar, *entry.arguments))
        return begun.pop_all()


async def _begin_at_once(connection: Any, scope: Scope, options: dict[str, Any]) -> AsyncExitStack:
    """BEGIN and the call in one message, which asyncpg does not hand the answer of: a round trip less."""
    call = scope.enter()
    arguments = ", ".join(f"{_literal(text)}::{kind}" for text, kind in zip(call.arguments, call.types, strict=True))
    folded = _Folded(connection._con, f"select tenantry.{call.function}({arguments})")
    async with AsyncExitStack() as begun:
        await begun.enter_async_context(Transaction(folded, **options))
        return begun.pop_all()


class _Folded:
    """A connection in all but that its first statement, BEGIN, takes a second one with it.

    It stands between the connection and asyncpg's own transaction, without which there would be no savepoints inside.
    """

    def __init__(self, connection: Any, statement: str) -> None:
        vars(self).update(connection=connection, statement=statement)

    async def execute(self, query: str) -> Any:
        folded = f"{query}{vars(self).pop('statement', '')}"
        return await self.connection.execute(folded)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.connection, name, value)


def _literal(text: str | None) -> str:
    """As SQL: an escape string, which reads the same whatever standard_conforming_strings says."""
    if text is None:
        return "null"
    return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
