"""Every way an app reaches its rows, behind one protocol: the same steps in, the same outcome out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import asyncpg
import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy import CursorResult, create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

import tenantry.asyncpg
import tenantry.psycopg
import tenantry.sqlalchemy
from databases import Database
from tenantry import mirror
from tenantry.context import TenantContext, current_scope, current_tenant
from tenantry.errors import Leftovers, NotProvisioned, TenantAlreadySet, TenantryError


@dataclass(frozen=True)
class Step:
    """A statement; in a savepoint of the driver's own where it says how that ends: `released` or `undone`."""

    sql: str
    savepoint: str | None = None


@dataclass(frozen=True)
class Work:
    """One transaction. Without `scoped` it bypasses Tenantry, on the same connections."""

    steps: Sequence[Step]
    scoped: bool = True
    read_only: bool = False
    commit: bool = True

    @property
    def statement(self) -> str | None:
        """The work as a single statement in a transaction of its own; None where it is more than that."""
        plain = self.scoped and self.commit and not self.read_only and len(self.steps) == 1
        return self.steps[0].sql if plain and not self.steps[0].savepoint else None


@dataclass(frozen=True)
class Problem:
    """An error as an app meets it, whichever driver raised it."""

    kind: str
    code: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """The rows of the last step, whom `current_tenant` named, and what went wrong."""

    rows: list[list[Any]] | None = None
    context: TenantContext | None = None
    problem: Problem | None = None


class Caller(Protocol):
    """Runs the work in the running scope; raises what the app would see."""

    async def transact(self, work: Work) -> Outcome: ...


class _RolledBack(Exception):  # no error: how these apps roll back
    pass


async def outcome_of(caller: Caller, work: Work) -> Outcome:
    try:
        return await caller.transact(work)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the outcome
        return Outcome(problem=problem_of(error))


def problem_of(error: BaseException) -> Problem:
    known = error if isinstance(error, TenantryError) else mirror.read_error(error)
    if known is not None:
        return Problem(type(known).__name__, known.code, known.message)
    raised: Any = error
    while (cause := getattr(raised, "orig", None) or raised.__cause__) is not None:
        raised = cause
    said = getattr(raised, "diag", None)
    message = said.message_primary if said is not None else getattr(raised, "message", None)
    return Problem("Error", str(getattr(raised, "sqlstate", type(raised).__name__)), str(message or raised))


# --- SQLAlchemy -------------------------------------------------------------------------------------------------------


@dataclass
class SyncSqlalchemy:
    factory: Any
    unscoped: Any

    async def transact(self, work: Work) -> Outcome:
        with (self.factory if work.scoped else self.unscoped)() as session:
            return _in_session(session, work)


@dataclass
class AsyncSqlalchemy:
    factory: Any
    unscoped: Any

    async def transact(self, work: Work) -> Outcome:
        async with (self.factory if work.scoped else self.unscoped)() as session:
            outcome: Outcome = await session.run_sync(_in_session, work)
            return outcome


def _in_session(session: Session, work: Work) -> Outcome:
    outcome = Outcome()
    if work.read_only:
        session.connection(execution_options={"postgresql_readonly": True})
    for step in work.steps:
        nested = session.begin_nested() if step.savepoint else None
        result = session.execute(text(step.sql))
        if isinstance(result, CursorResult) and result.returns_rows:
            outcome = replace(outcome, rows=[list(row) for row in result.all()])
        if nested is not None:
            nested.rollback() if step.savepoint == "undone" else nested.commit()
    outcome = replace(outcome, context=current_tenant() if work.scoped else None)
    session.commit() if work.commit else session.rollback()
    return outcome


# --- psycopg ----------------------------------------------------------------------------------------------------------


@dataclass
class SyncPsycopg:
    pool: Any
    single: bool = False  # single statements by the calls that are for them

    async def transact(self, work: Work) -> Outcome:
        outcome = Outcome()
        tenants = tenantry.psycopg.scoped(self.pool)
        if self.single and work.statement:
            rows = tenants.fetchall(work.statement.encode())
            return Outcome([list(row) for row in rows], current_tenant())
        opened = tenants.transaction(read_only=work.read_only or None) if work.scoped else self.pool.connection()
        try:
            with opened as connection:
                for step in work.steps:
                    if step.savepoint:
                        with connection.transaction(force_rollback=step.savepoint == "undone"):
                            cursor = connection.execute(step.sql)
                    else:
                        cursor = connection.execute(step.sql)
                    if cursor.description:
                        outcome = replace(outcome, rows=[list(row) for row in cursor.fetchall()])
                outcome = replace(outcome, context=current_tenant() if work.scoped else None)
                if not work.commit:
                    raise _RolledBack
        except _RolledBack:
            pass
        return outcome


@dataclass
class AsyncPsycopg:
    pool: Any
    single: bool = False

    async def transact(self, work: Work) -> Outcome:
        outcome = Outcome()
        tenants = tenantry.psycopg.scoped(self.pool)
        if self.single and work.statement:
            rows = await tenants.fetchall(work.statement.encode())
            return Outcome([list(row) for row in rows], current_tenant())
        opened = tenants.transaction(read_only=work.read_only or None) if work.scoped else self.pool.connection()
        try:
            async with opened as connection:
                for step in work.steps:
                    if step.savepoint:
                        async with connection.transaction(force_rollback=step.savepoint == "undone"):
                            cursor = await connection.execute(step.sql)
                    else:
                        cursor = await connection.execute(step.sql)
                    if cursor.description:
                        outcome = replace(outcome, rows=[list(row) for row in await cursor.fetchall()])
                outcome = replace(outcome, context=current_tenant() if work.scoped else None)
                if not work.commit:
                    raise _RolledBack
        except _RolledBack:
            pass
        return outcome


# --- asyncpg ----------------------------------------------------------------------------------------------------------


class Unreset(asyncpg.Connection):  # type: ignore[misc]
    """What is left on it stays there: the harder case."""

    def get_reset_query(self) -> str:
        return ""


@dataclass
class Asyncpg:
    pool: Any
    single: bool = False

    async def transact(self, work: Work) -> Outcome:
        outcome = Outcome()
        tenants = tenantry.asyncpg.scoped(self.pool)
        if self.single and work.statement:
            return Outcome([list(row) for row in await tenants.fetch(work.statement)], current_tenant())
        opened = tenants.transaction(readonly=work.read_only) if work.scoped else self._unscoped()
        try:
            async with opened as connection:
                for step in work.steps:
                    savepoint = connection.transaction() if step.savepoint else None
                    if savepoint is not None:
                        await savepoint.start()
                    statement = await connection.prepare(step.sql)
                    rows = await statement.fetch()
                    if statement.get_attributes():
                        outcome = replace(outcome, rows=[list(row) for row in rows])
                    if savepoint is not None:
                        await (savepoint.rollback() if step.savepoint == "undone" else savepoint.commit())
                outcome = replace(outcome, context=current_tenant() if work.scoped else None)
                if not work.commit:
                    raise _RolledBack
        except _RolledBack:
            pass
        return outcome

    @asynccontextmanager
    async def _unscoped(self) -> AsyncIterator[Any]:
        async with self.pool.acquire() as connection, connection.transaction():
            yield connection


# --- plain SQL --------------------------------------------------------------------------------------------------------


@dataclass
class PlainSql:
    """What any language would send: text, over the simple protocol, and nothing of our adapters."""

    url: str
    connection: psycopg.Connection[Any]

    async def transact(self, work: Work) -> Outcome:
        try:
            outcome = self._begin(work)
            for number, step in enumerate(work.steps):
                if step.savepoint:
                    self._send(f"savepoint step_{number}")
                if (rows := self._send(step.sql)) is not None:
                    outcome = replace(outcome, rows=rows)
                if step.savepoint:
                    self._send(f"{'rollback to' if step.savepoint == 'undone' else 'release'} step_{number}")
            self._send("commit" if work.commit else "rollback")
            return outcome
        except psycopg.Error as error:
            self._send("rollback")
            if isinstance(mirror.read_error(error), Leftovers | TenantAlreadySet):
                self.connection.close()  # it would refuse every tenant
                self.connection = psycopg.connect(self.url, autocommit=True)
            raise

    def _begin(self, work: Work) -> Outcome:
        opening = "begin read only" if work.read_only else "begin"
        if not work.scoped:
            self._send(opening)
            return Outcome()
        scope = current_scope()
        entry = scope.enter()
        self._send(opening)
        try:
            answer = self._call(entry)
        except psycopg.Error as error:
            if scope.provision is None or not isinstance(mirror.read_error(error), NotProvisioned):
                raise
            self._send("rollback")
            self._call(scope.provision)
            self._send(opening)
            answer = self._call(entry)
        return Outcome(context=scope.admit(answer))

    def _call(self, call: mirror.Call) -> str:
        rows = self._send(call.percent, *call.arguments)
        return str(rows[0][0]) if rows else ""

    def _send(self, statement: str, *values: object) -> list[list[Any]] | None:
        cursor = psycopg.ClientCursor(self.connection)
        cursor.execute(statement.encode(), values or None)
        return [list(row) for row in cursor.fetchall()] if cursor.description else None


# --- all of them ------------------------------------------------------------------------------------------------------

CALLERS = (
    "plain SQL",
    "SQLAlchemy on psycopg",
    "async SQLAlchemy on psycopg",
    "async SQLAlchemy on asyncpg",
    "psycopg",
    "psycopg, single statements",
    "async psycopg",
    "async psycopg, single statements",
    "async asyncpg",
    "async asyncpg, single statements",
)


@asynccontextmanager
async def opened(
    name: str, database: Database, *, dsn: str | None = None, cached: bool = True
) -> AsyncIterator[Caller]:
    """The caller on a pool of one connection of the app's login.

    `dsn`: another way to the database, over TCP. Without `cached` no driver keeps prepared statements, as behind a
    pooler.
    """
    url = dsn or database.dsn()
    name, _, single = name.partition(", ")
    size: dict[str, Any] = {"min_size": 1, "max_size": 1}
    if name.endswith(("SQLAlchemy on psycopg", "SQLAlchemy on asyncpg")):
        async with _opened_sqlalchemy(name, url, cached) as caller:
            yield caller
    elif name == "plain SQL":
        plain = PlainSql(url, psycopg.connect(url, autocommit=True))
        yield plain
        plain.connection.close()
    elif name == "async asyncpg":
        async with asyncpg.create_pool(url, connection_class=Unreset, **size, **_cache("asyncpg", cached)) as pool:
            yield Asyncpg(pool, bool(single))
    elif name == "psycopg":
        with ConnectionPool(url, open=True, kwargs=_cache("psycopg", cached), **size) as sync_pool:
            yield SyncPsycopg(sync_pool, bool(single))
    else:
        async with AsyncConnectionPool(url, open=False, kwargs=_cache("psycopg", cached), **size) as async_pool:
            yield AsyncPsycopg(async_pool, bool(single))


@asynccontextmanager
async def _opened_sqlalchemy(name: str, url: str, cached: bool) -> AsyncIterator[Caller]:
    driver = name.rpartition(" ")[2]
    address = f"postgresql+{driver}{url.removeprefix('postgresql')}".removesuffix("?sslmode=disable")
    kept = _cache(driver, cached)
    if "statement_cache_size" in kept:
        kept["prepared_statement_cache_size"] = 0  # SQLAlchemy keeps them too
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "connect_args": kept}
    if name.startswith("async"):
        engine = create_async_engine(address, **options)
        made = async_sessionmaker(engine)
        yield AsyncSqlalchemy(tenantry.sqlalchemy.scoped(made), made)
        await engine.dispose()
    else:
        plain = create_engine(address, **options)
        factory = sessionmaker(plain)
        yield SyncSqlalchemy(tenantry.sqlalchemy.scoped(factory), factory)
        plain.dispose()


def _cache(driver: str, cached: bool) -> dict[str, Any]:
    if cached:
        return {}
    return {"statement_cache_size": 0} if driver == "asyncpg" else {"prepare_threshold": None}
