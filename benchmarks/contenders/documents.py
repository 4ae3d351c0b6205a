"""What all apps of the scoped request share, so that only login, tenancy and database access differ: see request.py."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import orjson
from fastapi import FastAPI, Response
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

CONNECTIONS = 10
NEWEST = "select id, title, created_at from documents order by created_at desc limit 20"
NEWEST_OF = "select id, title, created_at from plain.documents where tenant_id = {} order by created_at desc limit 20"


class Base(DeclarativeBase):
    pass


class Columns:
    """A document without its tenant."""

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime]


def newest(model: Any) -> Select[Any]:
    """The query of the endpoint."""
    return select(model).order_by(model.created_at.desc()).limit(20)


def answer(documents: Iterable[Any]) -> Response:
    """Models as JSON."""
    return _json([{"id": d.id, "title": d.title, "created_at": d.created_at} for d in documents])


def answer_rows(rows: Sequence[Sequence[Any]]) -> Response:
    """A driver's rows (id, title, created_at) as the same JSON."""
    return _json([{"id": row[0], "title": row[1], "created_at": row[2]} for row in rows])


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_UTC_Z), media_type="application/json")


def api(start: Callable[[], Awaitable[Any]] | None = None) -> FastAPI:
    """An app that runs `start` first."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if start is not None:
            await start()
        yield

    return FastAPI(lifespan=lifespan)


def engine(driver: str) -> AsyncEngine:
    url = os.environ["DATABASE_URL"].replace("://", f"+{driver}://")
    return create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0)


class Unreset(asyncpg.Connection):  # type: ignore[misc]
    """As docs/drivers.md tells: nothing outlives its transaction, so that nothing is reset."""

    def get_reset_query(self) -> str:
        return ""


def asyncpg_pool() -> asyncpg.Pool[Any]:
    """Without the query that resets a connection on its way back: nothing here outlives its transaction."""
    return asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=CONNECTIONS, max_size=CONNECTIONS, connection_class=Unreset
    )


def psycopg_pool() -> AsyncConnectionPool[Any]:
    return AsyncConnectionPool(
        os.environ["DATABASE_URL"], min_size=CONNECTIONS, max_size=CONNECTIONS, open=False, kwargs={"autocommit": True}
    )
