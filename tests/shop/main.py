"""A user's app, as the page on testing assumes it: orders, read and written by sync endpoints."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, Depends, FastAPI
from sqlalchemy import Identity, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from tenantry.fastapi import Tenantry, requires
from tenantry.sqlalchemy import TenantScoped


class Base(DeclarativeBase):
    pass


class Order(TenantScoped, Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    text: Mapped[str]


tenancy = Tenantry.from_env()
engine = create_engine(os.environ["DATABASE_URL"].replace("://", "+psycopg://"))
sessions = tenancy.scoped(sessionmaker(engine))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with tenancy.lifespan(app):
        yield
    engine.dispose()


app = FastAPI(lifespan=lifespan)
tenancy.install(app)


def open_session() -> Iterator[Session]:
    with sessions.begin() as session:
        yield session


OpenSession = Annotated[Session, Depends(open_session, scope="function")]


@app.get("/orders")
def list_orders(session: OpenSession) -> list[str]:
    return list(session.scalars(select(Order.text).order_by(Order.id)))


@app.post("/orders", status_code=201)
def create_order(text: Annotated[str, Body(embed=True)], session: OpenSession) -> None:
    session.add(Order(text=text))


@app.delete("/orders", dependencies=[requires(permission="org:orders:delete", can="orders:clear")])
def clear_orders(session: OpenSession) -> None:
    for order in session.scalars(select(Order)):
        session.delete(order)
