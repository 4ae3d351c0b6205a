"""What users pick today: `clerk-backend-api` for the token, and an explicit WHERE or a tenancy library for the rows.

The token carries the tenant's uuid as a custom claim, which saves these contenders the look-up they would need.
"""

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from clerk_backend_api.security import authenticate_request
from clerk_backend_api.security.types import AuthenticateRequestOptions
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks.contenders.documents import Base, Columns, answer, api, engine, newest
from benchmarks.contenders.request_floor import Document

_options = AuthenticateRequestOptions(
    jwt_key=os.environ["CLERK_JWT_KEY"], authorized_parties=[os.environ["CLERK_AUTHORIZED_PARTIES"]]
)


async def get_claims(request: Request) -> dict[str, Any]:
    state = authenticate_request(request, _options)  # as in the SDK's README: a plain call in an async route
    if not state.is_signed_in or state.payload is None:
        raise HTTPException(401)
    return state.payload


Claims = Annotated[dict[str, Any], Depends(get_claims)]


def with_where() -> FastAPI:
    """Every query has to name its tenant; one that forgets reads all of them."""
    sessions = async_sessionmaker(engine("asyncpg"))
    app = api()

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    @app.get("/documents")
    async def documents(claims: Claims, session: Annotated[AsyncSession, Depends(get_session)]) -> Response:
        query = newest(Document).where(Document.tenant_id == UUID(claims["tid"]))
        return answer(await session.scalars(query))

    return app


class RlsDocument(Columns, Base):
    __tablename__ = "rls_documents"
    tenant_id: Mapped[UUID]


def with_fastapi_rls() -> FastAPI:
    from fastapi_rls import RLS

    database = engine("asyncpg")
    rls = RLS(async_engine=database, async_sessionmaker=async_sessionmaker(database))
    app = api()

    def get_identity(claims: Claims) -> dict[str, str]:
        return {"tenant_id": claims["tid"], "user_id": claims["sub"]}

    session = rls.async_session_dependency(identity=get_identity)

    @app.get("/documents")
    async def documents(session: Annotated[AsyncSession, Depends(session)]) -> Response:
        return answer(await session.scalars(newest(RlsDocument)))

    return app


class RoleDocument(Columns, Base):
    __tablename__ = "documents"
    __table_args__ = ({"schema": "roles"},)
    tenant: Mapped[UUID] = mapped_column()


def with_sqlalchemy_tenants() -> FastAPI:
    """A PostgreSQL role for each tenant, set for the session."""
    from sqlalchemy_tenants.aio.managers import PostgresManager

    manager = PostgresManager.from_engine(engine("asyncpg"), schema_name="roles")
    app = api()

    async def get_session(claims: Claims) -> AsyncIterator[AsyncSession]:
        async with manager.new_tenant_session(UUID(claims["tid"]), create_if_missing=False) as session:
            yield session

    @app.get("/documents")
    async def documents(session: Annotated[AsyncSession, Depends(get_session)]) -> Response:
        return answer(await session.scalars(newest(RoleDocument)))

    return app
