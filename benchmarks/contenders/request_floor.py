"""The floors of a scoped request: the same endpoint and query with an explicit WHERE, and nobody asked who they are.

The tenant comes from a header, as anybody may write it.
"""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, Header, Response
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped

from benchmarks.contenders.documents import (
    NEWEST_OF,
    Base,
    Columns,
    answer,
    answer_rows,
    api,
    asyncpg_pool,
    engine,
    newest,
    psycopg_pool,
)

Tenant = Annotated[UUID, Header(alias="x-tenant")]


class Document(Columns, Base):
    __tablename__ = "documents"
    __table_args__ = ({"schema": "plain"},)
    tenant_id: Mapped[UUID]


def sqlalchemy_on_asyncpg() -> FastAPI:
    return _with_sqlalchemy("asyncpg")


def sqlalchemy_on_psycopg() -> FastAPI:
    return _with_sqlalchemy("psycopg")


def _with_sqlalchemy(driver: str) -> FastAPI:
    sessions = async_sessionmaker(engine(driver))
    app = api()

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    @app.get("/documents")
    async def documents(tenant: Tenant, session: Annotated[AsyncSession, Depends(get_session)]) -> Response:
        return answer(await session.scalars(newest(Document).where(Document.tenant_id == tenant)))

    return app


def on_asyncpg() -> FastAPI:
    pool = asyncpg_pool()
    app = api(lambda: pool)
    query = NEWEST_OF.format("$1")

    @app.get("/documents")
    async def documents(tenant: Tenant) -> Response:
        return answer_rows(await pool.fetch(query, tenant))

    return app


def on_psycopg() -> FastAPI:
    pool = psycopg_pool()
    app = api(pool.open)
    query = NEWEST_OF.format("%s")

    @app.get("/documents")
    async def documents(tenant: Tenant) -> Response:
        async with pool.connection() as connection:
            return answer_rows(await (await connection.execute(query, [tenant])).fetchall())

    return app
