"""Notes, for one customer: an ordinary FastAPI and SQLAlchemy app that has never heard of tenants."""

import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Language(Base):
    __tablename__ = "languages"
    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class Notebook(Base):
    __tablename__ = "notebooks"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    language: Mapped[str] = mapped_column(ForeignKey("languages.code"), default="en")
    notes: Mapped[list["Note"]] = relationship(lazy="selectin", cascade="all, delete-orphan")


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    notebook_id: Mapped[int] = mapped_column(ForeignKey("notebooks.id", ondelete="CASCADE"))
    text: Mapped[str]


class NotebookIn(BaseModel):
    title: str


class NoteIn(BaseModel):
    text: str


engine = create_async_engine(os.environ["DATABASE_URL"])
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI(title="Notes")


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


DbSession = Annotated[AsyncSession, Depends(get_session)]


async def find_notebook(notebook_id: int, session: DbSession) -> Notebook:
    notebook = await session.get(Notebook, notebook_id)
    if notebook is None:
        raise HTTPException(404)
    return notebook


FoundNotebook = Annotated[Notebook, Depends(find_notebook)]


@app.get("/languages")
async def list_languages(session: DbSession) -> list[str]:
    return list(await session.scalars(select(Language.name).order_by(Language.name)))


@app.get("/notebooks")
async def list_notebooks(session: DbSession) -> list[str]:
    return list(await session.scalars(select(Notebook.title).order_by(Notebook.id)))


@app.get("/notebooks/count")
async def count_notebooks(session: DbSession) -> int:
    return await session.scalar(select(func.count()).select_from(Notebook)) or 0


@app.post("/notebooks", status_code=201)
async def create_notebook(given: NotebookIn, session: DbSession) -> int:
    notebook = Notebook(title=given.title)
    session.add(notebook)
    await session.commit()
    await session.refresh(notebook)
    return notebook.id


@app.get("/notebooks/{notebook_id}")
async def read_notebook(notebook: FoundNotebook) -> list[str]:
    return [note.text for note in notebook.notes]


@app.post("/notebooks/{notebook_id}/notes", status_code=201)
async def add_note(given: NoteIn, notebook: FoundNotebook, session: DbSession) -> None:
    session.add(Note(notebook_id=notebook.id, text=given.text))
    await session.commit()


@app.delete("/notebooks/{notebook_id}", status_code=204)
async def delete_notebook(notebook: FoundNotebook, session: DbSession) -> None:
    await session.delete(notebook)
    await session.commit()
