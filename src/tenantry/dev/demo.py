"""The app that `tenantry dev` runs when it is given none: notes, seen by their organization alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import FetchedValue, Identity, delete, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tenantry.database import connect
from tenantry.emulator.seed import DEFAULT_PASSWORD
from tenantry.errors import TenantryError
from tenantry.fastapi import CurrentTenant, Tenantry, requires
from tenantry.starlette import request_scope, tenancy_of

# What a migration of your own would do: make the table, then put it behind tenant isolation.
MIGRATION = """
create table if not exists notes (
  id bigint generated always as identity primary key,
  text text not null,
  author text not null default tenantry.current_user_id(),
  created_at timestamptz not null default now()
);
select tenantry.isolate_table_v1('notes');
"""


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    text: Mapped[str]
    author: Mapped[str] = mapped_column(server_default=FetchedValue())
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())


class NewNote(BaseModel):
    text: str = Field(min_length=1, max_length=1000)


class ShownNote(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    text: str
    author: str
    created_at: datetime


def create_app() -> FastAPI:
    """Makes the table, then the app; both databases' URLs come from the environment that `tenantry dev` sets."""
    with connect(os.environ["TENANTRY_MIGRATION_URL"]) as connection:
        connection.execute(MIGRATION)
    tenancy = Tenantry.from_env()
    app = FastAPI(title="Tenantry demo", lifespan=tenancy.lifespan)
    tenancy.install(app)
    engine = create_async_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))
    app.state.sessions = tenancy.scoped(async_sessionmaker(engine, expire_on_commit=False))
    app.state.templates = Jinja2Templates(Path(__file__).parent, context_processors=[tenancy.template_context])
    for path in ("/", "/sign-in"):  # the second is where links that sign somebody in lead
        app.add_api_route(path, show_page, response_class=HTMLResponse, include_in_schema=False)
    app.add_api_route("/", add_note, methods=["POST"], include_in_schema=False)
    app.add_api_route("/tenant", show_tenant)
    app.add_api_route("/notes", list_notes, response_model=list[ShownNote])
    app.add_api_route("/notes", create_note, methods=["POST"], status_code=201, response_model=ShownNote)
    app.add_api_route(
        "/notes/{id}", delete_note, methods=["DELETE"], status_code=204, dependencies=[requires(role="org:admin")]
    )
    return app


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session, session.begin():
        yield session


# `function`: committed before the answer is sent, not after.
Session = Annotated[AsyncSession, Depends(open_session, scope="function")]


async def show_page(request: Request) -> Response:
    """The notes; for who may see none, how to come in."""
    shown: dict[str, Any] = {"identity": request_scope(request).identity, "password": DEFAULT_PASSWORD}
    try:
        shown["tenant"] = await tenancy_of(request).resolve(request)
        async with request.app.state.sessions() as session:
            shown["notes"] = (await session.scalars(select(Note).order_by(Note.id.desc()))).all()
    except TenantryError as error:
        shown["error"] = error
    status = shown["error"].status if "error" in shown and shown["identity"] else 200  # to sign in is no error
    headers = {"Cache-Control": "no-store"}  # of one organization: not to come back after a switch
    page: Response = request.app.state.templates.TemplateResponse(
        request, "demo.html", shown, status_code=status, headers=headers
    )
    return page


async def add_note(text: Annotated[str, Form(min_length=1, max_length=1000)], session: Session) -> RedirectResponse:
    session.add(Note(text=text))
    return RedirectResponse("/", status_code=303)


async def show_tenant(tenant: CurrentTenant) -> dict[str, Any]:
    """Which organization the request is in, and as whom."""
    return {"organization": tenant.name, "id": tenant.id, "user": tenant.user_id, "role": tenant.role}


async def list_notes(tenant: CurrentTenant, session: Session) -> Any:
    """No WHERE on the tenant: the others' notes do not exist here."""
    return (await session.scalars(select(Note).order_by(Note.id))).all()


async def create_note(new: NewNote, tenant: CurrentTenant, session: Session) -> Any:
    note = Note(text=new.text)
    session.add(note)
    await session.flush()
    return note


async def delete_note(id: int, tenant: CurrentTenant, session: Session) -> None:
    """404 for another organization's note, as for one that never was."""
    gone = await session.execute(delete(Note).where(Note.id == id).returning(Note.id))
    if gone.first() is None:
        raise HTTPException(404)
