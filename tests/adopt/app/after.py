"""The same app behind isolation: an organization has projects, with tasks in them."""

import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import ForeignKey, Identity, UniqueConstraint, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tenantry.fastapi import CurrentTenant, Tenantry
from tenantry.sqlalchemy import TenantScoped, shared


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    __table_args__ = shared("write")

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    clerk_id: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str]
    company: Mapped[str]


class Priority(Base):
    __tablename__ = "priorities"
    __table_args__ = shared("read")

    name: Mapped[str] = mapped_column(primary_key=True)


class Project(TenantScoped, Base):
    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]


class Task(TenantScoped, Base):
    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    priority: Mapped[str] = mapped_column(ForeignKey("priorities.name"))
    title: Mapped[str]


tenancy = Tenantry.from_env()
app = FastAPI(lifespan=tenancy.lifespan)
tenancy.install(app)
engine = create_async_engine(os.environ["DATABASE_URL"].replace("://", "+asyncpg://"))
sessions = tenancy.scoped(async_sessionmaker(engine))


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


async def get_user(tenant: CurrentTenant, session: Session) -> User:
    user = await session.scalar(select(User).where(User.clerk_id == tenant.user_id))
    if user is None:
        raise HTTPException(403)
    return user


CurrentUser = Annotated[User, Depends(get_user)]


async def get_project(id: int, session: Session) -> Project:
    project = await session.get(Project, id)
    if project is None:
        raise HTTPException(404)
    return project


@app.get("/projects")
async def list_projects(session: Session) -> list[str]:
    return list(await session.scalars(select(Project.name).order_by(Project.name)))


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
