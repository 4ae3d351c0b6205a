"""The endpoint with Tenantry, as docs/fastapi.md and docs/drivers.md tell: token, tenant and rows are its business."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Response
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from benchmarks.contenders.documents import (
    NEWEST,
    Base,
    Columns,
    answer,
    answer_rows,
    asyncpg_pool,
    engine,
    newest,
    psycopg_pool,
)
from tenantry.fastapi import Tenantry
from tenantry.sqlalchemy import TenantScoped


class Document(TenantScoped, Columns, Base):
    __tablename__ = "documents"


def sqlalchemy_on_asyncpg() -> FastAPI:
    return _with_sqlalchemy("asyncpg")


def sqlalchemy_on_psycopg() -> FastAPI:
    return _with_sqlalchemy("psycopg")


def _with_sqlalchemy(driver: str) -> FastAPI:
    tenancy = Tenantry.from_env()
    app = FastAPI(lifespan=tenancy.lifespan)
    tenancy.install(app)
    sessions = tenancy.scoped(async_sessionmaker(engine(driver)))

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    @app.get("/documents")
    async def documents(session: Annotated[AsyncSession, Depends(get_session)]) -> Response:
        return answer(await session.scalars(newest(Document)))

    return app


def on_asyncpg() -> FastAPI:
    """One query in a transaction of its own."""
    from tenantry.asyncpg import scoped

    pool = asyncpg_pool()
    tenants = scoped(pool)
    app = _serving(pool)

    @app.get("/documents")
    async def documents() -> Response:
        return answer_rows(await tenants.fetch(NEWEST))

    return app


def asyncpg_transaction() -> FastAPI:
    """The same in an explicit transaction, as a request with several queries has it."""
    from tenantry.asyncpg import scoped

    pool = asyncpg_pool()
    tenants = scoped(pool)
    app = _serving(pool)

    @app.get("/documents")
    async def documents() -> Response:
        async with tenants.transaction() as connection:
            return answer_rows(await connection.fetch(NEWEST))

    return app


def on_psycopg() -> FastAPI:
    """One query in a transaction of its own."""
    from tenantry.psycopg import scoped

    pool = psycopg_pool()
    tenants = scoped(pool)
    app = _serving(pool)

    @app.get("/documents")
    async def documents() -> Response:
        return answer_rows(await tenants.fetchall(NEWEST))

    return app


def psycopg_transaction() -> FastAPI:
    """The same in an explicit transaction."""
    from tenantry.psycopg import scoped

    pool = psycopg_pool()
    tenants = scoped(pool)
    app = _serving(pool)

    @app.get("/documents")
    async def documents() -> Response:
        async with tenants.transaction() as connection:
            return answer_rows(await (await connection.execute(NEWEST)).fetchall())

    return app


def _serving(pool: Any) -> FastAPI:
    tenancy = Tenantry.from_env()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with pool, tenancy.lifespan(app):
            yield

    app = FastAPI(lifespan=lifespan)
    tenancy.install(app)
    return app
