"""A small app with organizations by hand: a table of them that its webhook keeps, and a filter in each query."""

import json
import os
from collections.abc import AsyncIterator
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from sqlalchemy import ForeignKey, Identity, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from svix.webhooks import Webhook, WebhookVerificationError


class Base(DeclarativeBase):
    pass


class Organization(Base):
    __tablename__ = "organizations"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    clerk_org_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]


class Invoice(Base):
    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id"), index=True)
    total: Mapped[int]


app = FastAPI()
engine = create_async_engine(os.environ["DATABASE_URL"].replace("://", "+asyncpg://"))
sessions = async_sessionmaker(engine)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_organization(authorization: Annotated[str, Header()], session: Session) -> Organization:
    token = authorization.removeprefix("Bearer ")
    try:
        claims = jwt.decode(token, os.environ["CLERK_JWT_KEY"], algorithms=["RS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    org_id = claims.get("o", {}).get("id")
    organization = await session.scalar(select(Organization).where(Organization.clerk_org_id == org_id))
    if organization is None:
        raise HTTPException(403)
    return organization


CurrentOrganization = Annotated[Organization, Depends(get_organization)]


@app.get("/invoices")
async def list_invoices(organization: CurrentOrganization, session: Session) -> list[int]:
    query = select(Invoice.total).where(Invoice.organization_id == organization.id)
    return list(await session.scalars(query.order_by(Invoice.id)))


@app.post("/invoices")
async def add_invoice(total: int, organization: CurrentOrganization, session: Session) -> None:
    session.add(Invoice(organization_id=organization.id, total=total))
    await session.commit()


@app.post("/webhooks/clerk")
async def keep_organization(request: Request, session: Session) -> None:
    body = await request.body()
    try:
        Webhook(os.environ["CLERK_WEBHOOK_SIGNING_SECRET"]).verify(body, dict(request.headers))
    except WebhookVerificationError:
        raise HTTPException(400) from None
    event = json.loads(body)
    if event["type"] in ("organization.created", "organization.updated"):
        data = event["data"]
        kept = insert(Organization).values(clerk_org_id=data["id"], name=data["name"])
        kept = kept.on_conflict_do_update(index_elements=["clerk_org_id"], set_={"name": data["name"]})
        await session.execute(kept)
        await session.commit()
