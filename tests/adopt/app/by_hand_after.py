"""The same app behind isolation: Tenantry keeps its organizations, and no query can see another's invoices."""

import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import ForeignKey, Identity, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tenantry.fastapi import CurrentTenant, Tenantry
from tenantry.sqlalchemy import isolated


class Base(DeclarativeBase):
    pass


class Organization(Base):
    __tablename__ = "organizations"
    __table_args__ = isolated(column="clerk_org_id")

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    clerk_org_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]


class Invoice(Base):
    __tablename__ = "invoices"
    __table_args__ = isolated(column="clerk_org_id")

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    clerk_org_id: Mapped[str] = mapped_column(server_default=text("tenantry.current_org_id()"))
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id"), index=True)
    total: Mapped[int]


tenancy = Tenantry.from_env()
app = FastAPI(lifespan=tenancy.lifespan)
tenancy.install(app)
engine = create_async_engine(os.environ["DATABASE_URL"].replace("://", "+asyncpg://"))
sessions = tenancy.scoped(async_sessionmaker(engine))


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_organization(tenant: CurrentTenant, session: Session) -> Organization:
    organization = await session.scalar(select(Organization).where(Organization.clerk_org_id == tenant.org_id))
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
