"""What users write from the documentation: FastAPI, svix, and SQLAlchemy upserts of organization, user, membership."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from sqlalchemy import BigInteger, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT, insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from svix.webhooks import Webhook, WebhookVerificationError

Write = Callable[[AsyncSession, dict[str, Any]], Awaitable[None]]


class Base(DeclarativeBase):
    pass


class Organization(Base):
    __tablename__ = "orgs"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    slug: Mapped[str]
    image_url: Mapped[str]
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)


class User(Base):
    __tablename__ = "users"
    id: Mapped[str] = mapped_column(primary_key=True)
    identifier: Mapped[str]
    first_name: Mapped[str]
    last_name: Mapped[str]
    image_url: Mapped[str]


class Membership(Base):
    __tablename__ = "memberships"
    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    user_id: Mapped[str]
    role: Mapped[str]
    permissions: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)


def with_models() -> FastAPI:
    """`insert(Model).on_conflict_do_update()` three times, one commit."""
    return _app(_write_models)


def with_text() -> FastAPI:
    """The same with prepared `text()`: of somebody who has measured what building statements costs."""
    return _app(_write_text)


def _app(write: Write) -> FastAPI:
    url = os.environ["DATABASE_URL"].replace("://", "+asyncpg://")
    engine = create_async_engine(url, pool_size=10, max_overflow=0)
    sessions = async_sessionmaker(engine)
    webhook = Webhook(os.environ["CLERK_WEBHOOK_SIGNING_SECRET"])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/webhooks/clerk")
    async def receive(request: Request) -> dict[str, bool]:
        body = await request.body()
        try:
            webhook.verify(body, dict(request.headers))
        except WebhookVerificationError:
            raise HTTPException(400) from None
        event = json.loads(body)
        if event["type"].startswith("organizationMembership."):
            async with sessions() as session:
                await write(session, event["data"])
                await session.commit()
        return {"ok": True}

    return app


def _rows(data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    organization, user = data["organization"], data["public_user_data"]
    return (
        {name: organization[name] for name in ("id", "name", "slug", "image_url", "created_at", "updated_at")},
        {"id": user["user_id"]} | {name: user[name] for name in ("identifier", "first_name", "last_name", "image_url")},
        {"org_id": organization["id"], "user_id": user["user_id"]}
        | {name: data[name] for name in ("id", "role", "permissions", "created_at", "updated_at")},
    )


async def _write_models(session: AsyncSession, data: dict[str, Any]) -> None:
    organization, user, membership = _rows(data)
    await session.execute(_upsert(Organization, organization, "name", "slug", "image_url", "updated_at"))
    await session.execute(_upsert(User, user, "identifier", "first_name", "last_name", "image_url"))
    await session.execute(_upsert(Membership, membership, "role", "permissions", "updated_at"))


def _upsert(model: type[Base], row: dict[str, Any], *replaced: str) -> Any:
    statement = insert(model).values(row)
    return statement.on_conflict_do_update(
        index_elements=["id"], set_={name: statement.excluded[name] for name in replaced}
    )


async def _write_text(session: AsyncSession, data: dict[str, Any]) -> None:
    for statement, row in zip(_STATEMENTS, _rows(data), strict=True):
        await session.execute(statement, row)


_STATEMENTS = [
    text("""
        insert into orgs (id, name, slug, image_url, created_at, updated_at)
        values (:id, :name, :slug, :image_url, :created_at, :updated_at)
        on conflict (id) do update set name = excluded.name, slug = excluded.slug, image_url = excluded.image_url,
          updated_at = excluded.updated_at
    """),
    text("""
        insert into users (id, identifier, first_name, last_name, image_url)
        values (:id, :identifier, :first_name, :last_name, :image_url)
        on conflict (id) do update set identifier = excluded.identifier, first_name = excluded.first_name,
          last_name = excluded.last_name, image_url = excluded.image_url
    """),
    text("""
        insert into memberships (id, org_id, user_id, role, permissions, created_at, updated_at)
        values (:id, :org_id, :user_id, :role, :permissions, :created_at, :updated_at)
        on conflict (id) do update set role = excluded.role, permissions = excluded.permissions,
          updated_at = excluded.updated_at
    """),
]
