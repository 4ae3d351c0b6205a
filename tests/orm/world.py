"""Models, rows of two tenants, and one way to run the same work on each driver, sync or async.

Not `tests/sqlalchemy`: a folder of that name would stand in the way of the package.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sqlalchemy import Engine, ForeignKey, ForeignKeyConstraint, Identity, create_engine, event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    mapped_column,
    relationship,
    sessionmaker,
)

import sql.tenants as tenants
from databases import APP, OWNER, SUPERUSER
from sql.tenants import Tenant, World
from tenantry.context import Scope, scope_of, use_scope
from tenantry.identity import Identity as TokenIdentity
from tenantry.sqlalchemy import TenantScoped, scoped, shared

T = TypeVar("T")
DRIVERS = ("psycopg", "psycopg-async", "asyncpg")


class Base(DeclarativeBase):
    pass


class Author(TenantScoped, Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]
    documents: Mapped[list[Document]] = relationship(back_populates="author")
    if TYPE_CHECKING:
        written: Any


class Document(TenantScoped, Base):
    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author | None] = relationship(back_populates="documents")


Author.written = column_property(
    select(func.count(Document.id)).where(Document.author_id == Author.id).correlate_except(Document).scalar_subquery()
)


class Project(TenantScoped, Base):
    __tablename__ = "projects"
    __tenant_in_key__ = True
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]
    tasks: Mapped[list[Task]] = relationship(back_populates="project", foreign_keys="Task.project_id")


class Folder(TenantScoped, Base):
    __tablename__ = "folders"
    __tenant_in_key__ = True
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]


class Task(TenantScoped, Base):
    """Two composite references that share the tenant column: the case in which SQLAlchemy would warn."""

    __tablename__ = "tasks"
    __tenant_in_key__ = True
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"]),
        ForeignKeyConstraint(["tenant_id", "folder_id"], ["folders.tenant_id", "folders.id"]),
    )
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    project_id: Mapped[int]
    folder_id: Mapped[int | None]
    project: Mapped[Project] = relationship(back_populates="tasks", foreign_keys="Task.project_id")
    folder: Mapped[Folder | None] = relationship(foreign_keys="Task.folder_id")


class Country(Base):
    __tablename__ = "countries"
    __table_args__ = shared("write")
    code: Mapped[str] = mapped_column(primary_key=True)


ISOLATED = ("authors", "documents", "projects", "folders", "tasks")


def make_tables(world: World) -> None:
    """The tables as a migration would make them, as their owner."""
    engine = create_engine(world.database.url(OWNER))
    Base.metadata.create_all(engine)
    engine.dispose()
    with world.connect(OWNER) as connection:
        for table in ISOLATED:
            tenants.isolate(connection, table)
        tenants.run(connection, "select tenantry.share_table_v1('countries', 'write')")


def fill(world: World) -> None:
    """Odd ids are A's, even ids B's; every text of a tenant carries its sentinel."""
    with world.connect(SUPERUSER) as connection:
        tenants.run(
            connection,
            "truncate authors, documents, projects, folders, tasks, countries restart identity cascade",
            "insert into countries values ('NO'), ('PT')",
        )
        for first, tenant in ((1, world.a), (2, world.b)):
            values = {"t": tenant.id, "s": tenant.sentinel, "one": first, "two": first + 2}
            for statement in (
                "insert into authors (id, tenant_id, name) overriding system value values (%(one)s, %(t)s, %(s)s)",
                """insert into documents (id, tenant_id, title, author_id) overriding system value
                   values (%(one)s, %(t)s, %(s)s || ' one', %(one)s), (%(two)s, %(t)s, %(s)s || ' two', null)""",
                "insert into projects (id, tenant_id, name) overriding system value values (%(one)s, %(t)s, %(s)s)",
                """insert into tasks (id, tenant_id, project_id) overriding system value
                   values (%(one)s, %(t)s, %(one)s)""",
            ):
                connection.execute(statement, values)
        for table in ISOLATED:
            tenants.run(connection, f"alter table {table} alter column id restart with 100")


def stored(world: World, statement: str) -> list[Any]:
    """What is really in the database, as nobody whom a policy holds sees it."""
    with world.connect(SUPERUSER) as connection:
        return tenants.rows(connection, statement)


def token(tenant: Tenant, **changes: Any) -> Scope:
    """The scope of a request with a verified token of the tenant's member."""
    facts = tenants.identity(tenant, **changes)
    facts["permissions"] = frozenset(facts["permissions"])
    return scope_of(TokenIdentity(**facts))


def acting(tenant: Tenant, **changes: Any) -> AbstractContextManager[Scope]:
    return use_scope(token(tenant, **changes))


@dataclass
class Driver:
    """An engine with one pooled connection, and sessions over it; `sent` is what SQLAlchemy sent."""

    name: str
    engine: Engine | AsyncEngine
    sent: list[tuple[str, Any]] = field(default_factory=list)
    connects: list[Any] = field(default_factory=list)

    @classmethod
    def open(cls, name: str, world: World, login: str = APP, **options: Any) -> Driver:
        url = world.database.url(login, name.removesuffix("-async"))
        pool = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 5}
        engine = (
            create_engine(url, **pool, **options) if name == "psycopg" else create_async_engine(url, **pool, **options)
        )
        driver = cls(name, engine)
        event.listen(driver.sync_engine, "before_cursor_execute", driver._note)
        event.listen(driver.sync_engine, "connect", lambda *made: driver.connects.append(made))
        return driver

    @property
    def sync_engine(self) -> Engine:
        return self.engine.sync_engine if isinstance(self.engine, AsyncEngine) else self.engine

    def factory(self, **options: Any) -> Any:
        if isinstance(self.engine, AsyncEngine):
            return scoped(async_sessionmaker(**{"bind": self.engine, **options}))
        return scoped(sessionmaker(**{"bind": self.engine, **options}))

    @staticmethod
    def joined(connection: Any, **options: Any) -> Any:
        """Sessions over a connection whose transaction began outside them."""
        return scoped(sessionmaker(bind=connection, **options))

    async def run(self, work: Callable[[Session], T], **options: Any) -> T:
        """Runs the work in a session of its own; the running code's scope is whoever called's."""
        session = self.factory(**options)()
        if isinstance(session, AsyncSession):
            async with session:
                return await session.run_sync(work)
        with session:
            return work(session)

    async def on_connection(self, work: Callable[[Any], T]) -> T:
        """Runs the work with a connection of the engine, in an outer transaction that is rolled back."""
        if isinstance(self.engine, AsyncEngine):
            async with self.engine.connect() as connection:
                outer = await connection.begin()
                try:
                    return await connection.run_sync(work)
                finally:
                    await outer.rollback()
        with self.engine.connect() as plain:
            transaction = plain.begin()
            try:
                return work(plain)
            finally:
                transaction.rollback()

    async def dispose(self) -> None:
        if isinstance(self.engine, AsyncEngine):
            await self.engine.dispose()
        else:
            self.engine.dispose()

    def _note(self, connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        self.sent.append((statement, parameters))


def save(session: Session, row: Base) -> None:
    session.add(row)
    session.commit()


def titles(session: Session) -> list[str]:
    return sorted(session.scalars(select(Document.title)))


def own(tenant: Tenant) -> list[str]:
    return [f"{tenant.sentinel} one", f"{tenant.sentinel} two"]


def uuid(tenant: Tenant) -> UUID:
    return UUID(tenant.id)


def told(values: Sequence[Any]) -> str:
    return json.dumps(values, default=str)
