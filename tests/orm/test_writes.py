"""What a session writes belongs to its tenant, and refers to its tenant's rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.exc import StaleDataError

from orm.world import Base, Document, Driver, Folder, Project, Task, acting, save, stored, uuid
from sql.tenants import Tenant, World
from tenantry.errors import IsolationError
from tenantry.sqlalchemy import TenantScoped, isolation_of

Act = Callable[[Session], Any]
TABLE: Any = Document.__table__


def documents(world: World) -> list[str]:
    return stored(world, "select concat_ws(' ', id, tenant_id, title, author_id) from documents")


# --- into another tenant ----------------------------------------------------------------------------------------------


@pytest.mark.attack(48)
async def test_an_object_of_another_tenant_is_refused_before_anything_is_written(
    driver: Driver, world: World, a: Tenant, b: Tenant
) -> None:
    def foreign(session: Session) -> None:
        session.add(Document(title="sneaked in", tenant_id=uuid(b)))
        with pytest.raises(IsolationError, match=f"A Document of tenant {b.id} was used under tenant {a.id}"):
            session.commit()

    def moved(session: Session) -> None:
        document = session.get(Document, 1)
        assert document is not None
        document.tenant_id = uuid(b)
        with pytest.raises(IsolationError, match=b.id):
            session.commit()

    def loaded_elsewhere(session: Session) -> None:
        session.merge(Document(id=2, title="bravo one", tenant_id=uuid(b)))
        with pytest.raises(IsolationError, match=b.id):
            session.flush()

    before = documents(world)
    with acting(a):
        for work in (foreign, moved, loaded_elsewhere):
            await driver.run(work)
    assert documents(world) == before
    assert not any("INSERT" in statement or "UPDATE" in statement for statement, _ in driver.sent)


PAST_THE_ORM: dict[str, Callable[[Session, Any], Any]] = {
    "insert": lambda s, other: s.execute(insert(Document).values(title="x", tenant_id=other)),
    "bulk insert": lambda s, other: s.execute(insert(Document), [{"title": "x", "tenant_id": other}]),
    "bulk save": lambda s, other: s.bulk_save_objects([Document(title="x", tenant_id=other)]),
    "bulk mappings": lambda s, other: s.bulk_insert_mappings(Document.__mapper__, [{"title": "x", "tenant_id": other}]),
    "insert into the table": lambda s, other: s.execute(insert(TABLE).values(title="x", tenant_id=other)),
    "update": lambda s, other: s.execute(update(Document).values(tenant_id=other)),
    "update the table": lambda s, other: s.execute(update(TABLE).values(tenant_id=other)),
    "bulk update": lambda s, other: s.execute(update(Document), [{"id": 1, "tenant_id": other}]),
}


@pytest.mark.attack(47, 48)
async def test_what_goes_past_the_objects_is_refused_by_the_database(
    driver: Driver, world: World, a: Tenant, b: Tenant
) -> None:
    before = documents(world)
    with acting(a):
        for act in PAST_THE_ORM.values():
            with pytest.raises(DBAPIError, match="row-level security"):
                await driver.run(lambda s, act=act: act(s, uuid(b)))  # type: ignore[misc]
    assert documents(world) == before


ON_OTHERS_ROWS: dict[str, Act] = {
    "update": lambda s: s.execute(update(Document).where(Document.id == 2).values(title="x")),
    "update the table": lambda s: s.execute(update(TABLE).where(TABLE.c.id == 2).values(title="x")),
    "delete": lambda s: s.execute(delete(Document).where(Document.id == 2)),
    "delete from the table": lambda s: s.execute(delete(TABLE).where(TABLE.c.id == 2)),
}


@pytest.mark.attack(47)
async def test_another_tenants_rows_are_not_there_to_be_changed(driver: Driver, world: World, a: Tenant) -> None:
    before = documents(world)
    with acting(a):
        for act in ON_OTHERS_ROWS.values():
            assert await driver.run(lambda s, act=act: (act(s).rowcount, s.commit())[0]) == 0  # type: ignore[misc]
    assert documents(world) == before


@pytest.mark.attack(47)
async def test_a_bulk_update_by_key_finds_no_row_of_another_tenant(driver: Driver, world: World, a: Tenant) -> None:
    def bulk(session: Session) -> None:
        with pytest.raises(StaleDataError):
            session.execute(update(Document), [{"id": 2, "title": "x"}])
        session.rollback()
        with pytest.raises(StaleDataError):
            session.bulk_update_mappings(Document.__mapper__, [{"id": 2, "title": "x"}])

    before = documents(world)
    with acting(a):
        await driver.run(bulk)
    assert documents(world) == before


async def test_a_key_of_another_tenant_is_taken_and_that_is_all_that_is_told(driver: Driver, a: Tenant) -> None:
    """A single key is unique across tenants; one that carries the tenant (below) does not even tell that."""

    def work(session: Session) -> None:
        session.merge(Document(id=2, title="mine"))
        with pytest.raises(IntegrityError):
            session.flush()

    with acting(a):
        await driver.run(work)


# --- keys that carry the tenant ---------------------------------------------------------------------------------------


@pytest.mark.attack(27)
async def test_a_reference_to_another_tenants_row_is_refused_like_a_missing_one(driver: Driver, a: Tenant) -> None:
    def refer(project_id: int) -> Act:
        def work(session: Session) -> str:
            session.add(Task(project_id=project_id))
            with pytest.raises(IntegrityError) as caught:
                session.flush()
            return str(getattr(caught.value.orig, "sqlstate", ""))

        return work

    with acting(a):
        assert await driver.run(refer(2)) == await driver.run(refer(999)) == "23503"


async def test_two_tenants_may_use_one_key_where_it_carries_them(driver: Driver, world: World, b: Tenant) -> None:
    with acting(b):
        await driver.run(lambda s: save(s, Project(id=1, name="bravo too")))
        assert await driver.run(lambda s: s.get(Project, (uuid(b), 1)).name) == "bravo too"  # type: ignore[union-attr]
    assert stored(world, "select name from projects where id = 1") == ["alpha", "bravo too"]


async def test_relationships_over_composite_keys_load_and_save_without_a_warning(driver: Driver, a: Tenant) -> None:
    def work(session: Session) -> tuple[Any, ...]:
        task = Task(project=Project(name="alpha new"), folder=Folder(name="alpha folder"))
        session.add(task)
        session.commit()
        session.expunge_all()
        loaded = session.scalars(select(Task).where(Task.project_id >= 100)).one()
        assert loaded.project.tasks == [loaded]
        loaded.folder = None
        session.commit()
        return loaded.tenant_id, loaded.project.name, loaded.folder_id

    with warnings.catch_warnings(), acting(a):
        warnings.simplefilter("error")
        Base.registry.configure()
        assert await driver.run(work) == (uuid(a), "alpha new", None)


# --- models -----------------------------------------------------------------------------------------------------------


def test_models_that_are_dataclasses_can_be_scoped() -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Note(TenantScoped, Base):
            __tablename__ = "notes"
            id: Mapped[int] = mapped_column(init=False, primary_key=True)
            words: Mapped[str]

    assert Note(words="hello").tenant_id is None


def test_a_subclass_shares_its_parents_tenant_column() -> None:
    class Base(DeclarativeBase):
        pass

    class Animal(TenantScoped, Base):
        __tablename__ = "animals"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    class Cat(Animal):
        __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012
        lives: Mapped[int | None]

    class Owner(TenantScoped, Base):
        __tablename__ = "owners"
        id: Mapped[int] = mapped_column(primary_key=True)
        cat_id: Mapped[int] = mapped_column(ForeignKey("animals.id"))
        cat: Mapped[Cat] = relationship()

    Base.registry.configure()
    table: Any = Animal.__table__
    assert Cat.__table__ is table
    assert [column.name for column in table.columns].count("tenant_id") == 1
    stated = isolation_of(Animal.metadata.tables["animals"])
    assert stated is not None
    assert (stated.mode, stated.column, stated.key) == ("isolated", "tenant_id", "id")
