"""A small app from before organizations: people have projects of their own, with tasks in them."""

import os
from collections.abc import AsyncIterator
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException
from sqlalchemy import ForeignKey, Identity, UniqueConstraint, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    clerk_id: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str]
    company: Mapped[str]


class Priority(Base):
    __tablename__ = "priorities"

    name: Mapped[str] = mapped_column(primary_key=True)


class Project(Base):
    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]


class Task(Base):
    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    priority: Mapped[str] = mapped_column(ForeignKey("priorities.name"))
    title: Mapped[str]


app = FastAPI()
engine = create_async_engine(os.environ["DATABASE_URL"].replace("://", "+asyncpg://"))
sessions = async_sessionmaker(engine)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user(authorization: Annotated[str, Header()], session: Session) -> User:
    token = authorization.removeprefix("Bearer ")
    try:
        claims = jwt.decode(token, os.environ["CLERK_JWT_KEY"], algorithms=["RS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    user = await session.scalar(select(User).where(User.clerk_id == claims["sub"]))
    if user is None:
        raise HTTPException(403)
    return user


CurrentUser = Annotated[User, Depends(get_user)]


async def get_project(id: int, user: CurrentUser, session: Session) -> Project:
    project = await session.get(Project, id)
    if project is None or project.owner_id != user.id:
        raise HTTPException(404)
    return project


@app.get("/projects")
async def list_projects(user: CurrentUser, session: Session) -> list[str]:
    query = select(Project.name).where(Project.owner_id == user.id)
    return list(await session.scalars(query.order_by(Project.name)))


@app.post("/projects")
async def add_project(name: str, user: CurrentUser, session: Session) -> int:
    project = Project(name=name, owner_id=user.id)
    session.add(project)
    await session.flush()
    number = project.id
    await session.commit()
    return number


@app.get("/projects/{id}/tasks")
async def list_tasks(project: Annotated[Project, Depends(get_project)], session: Session) -> list[str]:
    query = select(Task.title).where(Task.project_id == project.id)
    return list(await session.scalars(query.order_by(Task.id)))


@app.post("/projects/{id}/tasks")
async def add_task(title: str, project: Annotated[Project, Depends(get_project)], session: Session) -> None:
    session.add(Task(title=title, project_id=project.id, priority="normal"))
    await session.commit()
