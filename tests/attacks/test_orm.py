"""SQLAlchemy: what a session shows or changes of another tenant once a defence is taken out, and what else it must not.

Odd ids and the word `alpha` are A's, even ids and `bravo` are B's; the engine has one pooled connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Uuid, bindparam, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import Session, with_loader_criteria
from sqlalchemy.orm.exc import ObjectDeletedError

import tenantry.sqlalchemy as adapter
from attacks.defences import rewrite_python
from databases import SUPERUSER
from orm.world import ISOLATED, Author, Document, Driver, Project, Task, acting, own, save, stored, titles, uuid
from sql.tenants import Tenant, World, run
from tenantry.errors import IsolationError, TenantAlreadySet
from tenantry.sqlalchemy import TenantScoped

Act = Callable[[Session], Any]


@pytest.fixture
def open_tables(world: World) -> Iterator[World]:
    """Row level security is gone."""
    with world.connect(SUPERUSER) as connection:
        run(connection, *(f"alter table {table} disable row level security" for table in ISOLATED))
        yield world
        run(connection, *(f"alter table {table} enable row level security" for table in ISOLATED))


async def work(driver: Driver, tenant: Tenant, act: Act) -> Any:
    with acting(tenant):
        return await driver.run(act)


# --- what a session holds ---------------------------------------------------------------------------------------------


def turn(a: Tenant, b: Tenant) -> Act:
    """Loads a row in B, then asks for it in A."""

    def act(session: Session) -> str:
        with acting(b):
            held = session.get(Document, 2)
            session.commit()
        with acting(a):
            found = session.get(Document, 2)
            assert found is held
            return "nothing" if found is None else found.title

    return act


@pytest.mark.breach(42)
async def test_a_session_of_two_tenants_answers_one_with_what_it_holds_of_the_other(
    driver: Driver, a: Tenant, b: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TenantAlreadySet):
        await driver.run(turn(a, b), expire_on_commit=False)
    rewrite_python(monkeypatch, adapter, "_pinned_scope", "if pinned != scope.key:", "if False:")
    monkeypatch.delattr(adapter._TenantSession, "_identity_lookup")
    assert await driver.run(turn(a, b), expire_on_commit=False) == "bravo one"


def by_another_way(session: Session) -> str | None:
    """Brings B's author in by SQL of the app's own, then follows a reference to it."""
    session.execute(text("update documents set author_id = 2 where id = 1"))
    brought = session.scalars(select(Author).from_statement(text("select * from authors"))).all()
    document = session.get(Document, 1)
    assert document is not None
    assert brought
    return document.author.name if document.author else None


@pytest.mark.attack(43)
async def test_no_relationship_finds_an_object_of_another_tenant(driver: Driver, a: Tenant) -> None:
    assert await work(driver, a, by_another_way) is None


@pytest.mark.breach(43)
@pytest.mark.usefixtures("open_tables")
async def test_without_both_defences_a_relationship_finds_what_sql_has_brought_in(
    driver: Driver, a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The predicate is not asked: the session has the object."""
    with pytest.raises(IsolationError):
        await work(driver, a, by_another_way)
    monkeypatch.delattr(adapter._TenantSession, "_identity_lookup")
    assert await work(driver, a, by_another_way) == "bravo"


HANDED_OVER: dict[str, Callable[[Session, Document], Document | None]] = {
    "add": lambda session, cached: session.add(cached),
    "merge": lambda session, cached: session.merge(cached, load=False),
}


@pytest.mark.attack(51)
@pytest.mark.parametrize("how", HANDED_OVER)
async def test_an_object_that_a_cache_hands_to_another_tenants_session_is_not_found_there(
    driver: Driver, a: Tenant, b: Tenant, how: str
) -> None:
    def load(session: Session) -> Document:
        document = session.get_one(Document, 2)
        session.expunge(document)
        return document

    def find(session: Session) -> None:
        held = HANDED_OVER[how](session, cached)  # a session forgets what nobody holds
        with pytest.raises(IsolationError):
            session.get(Document, 2)
        assert held is None or held.title == "bravo one"

    cached = await work(driver, b, load)
    await work(driver, a, find)


@pytest.mark.breach(51)
async def test_without_the_look_at_it_a_cached_object_is_found_in_another_tenants_session(
    driver: Driver, a: Tenant, b: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(adapter._TenantSession, "_identity_lookup")

    def load(session: Session) -> Document:
        document = session.get_one(Document, 2)
        session.expunge(document)
        return document

    def find(session: Session) -> str:
        session.add(cached)
        return session.get_one(Document, 2).title

    cached = await work(driver, b, load)
    assert await work(driver, a, find) == "bravo one"


def of_an_insert(session: Session) -> str | None:
    document = Document(title="alpha new", author_id=2)
    session.add(document)
    session.flush()
    return document.author.name if document.author else None


@pytest.mark.breach(44)
@pytest.mark.usefixtures("open_tables")
async def test_without_both_defences_an_object_just_inserted_loads_another_tenants_row(
    driver: Driver, a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await work(driver, a, of_an_insert) is None
    monkeypatch.setattr(adapter, "_add_predicate", lambda state: None)
    assert await work(driver, a, of_an_insert) == "bravo"


def reload(world: World, b: Tenant, how: str) -> Act:
    """Loads a document of A's, which then becomes B's, and reads it once more."""

    def act(session: Session) -> str:
        document = session.get(Document, 1)
        assert document is not None
        session.commit()
        with world.connect(SUPERUSER) as connection:
            run(connection, f"update documents set title = 'bravo by now', tenant_id = '{b.id}' where id = 1")
        if how == "refresh":
            session.refresh(document)
        return document.title

    return act


RELOADS = pytest.mark.parametrize("how", ["refresh", "expired attribute"])


@RELOADS
@pytest.mark.attack(45)
async def test_no_refresh_reads_a_row_that_became_anothers(
    driver: Driver, world: World, a: Tenant, b: Tenant, how: str
) -> None:
    with pytest.raises((ObjectDeletedError, InvalidRequestError)):
        await work(driver, a, reload(world, b, how))


@RELOADS
@pytest.mark.breach(45)
async def test_without_row_level_security_a_refresh_reads_a_row_that_became_anothers(
    driver: Driver, open_tables: World, a: Tenant, b: Tenant, how: str
) -> None:
    assert await work(driver, a, reload(open_tables, b, how)) == "bravo by now"


# --- what a session writes --------------------------------------------------------------------------------------------

TABLE: Any = Document.__table__
PAST_THE_PREDICATE: dict[str, Act] = {
    "bulk update": lambda s: s.execute(update(Document), [{"id": 2, "title": "hacked"}]),
    "bulk mappings": lambda s: s.bulk_update_mappings(Document.__mapper__, [{"id": 2, "title": "hacked"}]),
    "update the table": lambda s: s.execute(update(TABLE).where(TABLE.c.id == 2).values(title="hacked")),
    "delete from the table": lambda s: s.execute(delete(TABLE).where(TABLE.c.id == 2)),
}
FOR_ANOTHER: dict[str, Callable[[Session, Any], Any]] = {
    "object": lambda s, other: s.add(Document(title="for bravo", tenant_id=other)),
    "insert": lambda s, other: s.execute(insert(Document).values(title="for bravo", tenant_id=other)),
    "moved": lambda s, other: setattr(s.get(Document, 1), "tenant_id", other),
}


def theirs(world: World, b: Tenant) -> list[str]:
    return stored(world, f"select title from documents where tenant_id = '{b.id}'")


def kept(act: Act) -> Act:
    def act_and_commit(session: Session) -> None:
        act(session)
        session.commit()

    return act_and_commit


@pytest.mark.breach(47)
@pytest.mark.parametrize("act", PAST_THE_PREDICATE)
async def test_without_row_level_security_a_write_past_the_predicate_reaches_another_tenants_row(
    driver: Driver, open_tables: World, a: Tenant, b: Tenant, act: str
) -> None:
    await work(driver, a, kept(PAST_THE_PREDICATE[act]))
    assert theirs(open_tables, b) in (["bravo two", "hacked"], ["bravo two"])


@pytest.mark.breach(48)
@pytest.mark.parametrize("act", FOR_ANOTHER)
async def test_without_both_checks_a_row_is_written_for_another_tenant(
    driver: Driver, open_tables: World, a: Tenant, b: Tenant, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_refuse_foreign_objects", lambda *flush: None)
    await work(driver, a, kept(lambda session: FOR_ANOTHER[act](session, uuid(b))))
    assert len(theirs(open_tables, b)) == 3


# --- what a session tells ---------------------------------------------------------------------------------------------


def merged(model: Any, id_: int) -> Act:
    """How merging an object with this id ends."""

    def act(session: Session) -> str:
        session.merge(model(id=id_, **{"title" if model is Document else "name": "alpha"}))
        try:
            session.flush()
        except IntegrityError:
            return "taken"
        return "written"

    return act


@pytest.mark.attack(49)
async def test_a_merge_on_another_tenants_key_is_like_one_on_a_key_nobody_has(driver: Driver, a: Tenant) -> None:
    assert [await work(driver, a, merged(Project, id_)) for id_ in (2, 999)] == ["written", "written"]


@pytest.mark.breach(49)
async def test_a_merge_on_a_key_without_the_tenant_tells_that_another_has_it(driver: Driver, a: Tenant) -> None:
    assert [await work(driver, a, merged(Document, id_)) for id_ in (2, 999)] == ["taken", "written"]


@pytest.mark.breach(50)
@pytest.mark.usefixtures("open_tables")
async def test_a_tenant_that_is_no_parameter_stays_in_the_cached_statement(
    driver: Driver, a: Tenant, b: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value that the criteria were first made with answers everybody."""
    frozen = bindparam("tenantry_tenant_id", uuid(a), type_=Uuid())
    criteria = with_loader_criteria(TenantScoped, lambda cls: cls.tenant_id == frozen, include_aliases=True)
    monkeypatch.setattr(adapter, "_OWN_ROWS", criteria)
    assert [await work(driver, tenant, titles) for tenant in (a, b)] == [own(a), own(a)]


def childless(model: Any, id_: int) -> Act:
    """How the deletion of a parent ends."""

    def act(session: Session) -> str:
        try:
            return f"{session.execute(delete(model).where(model.id == id_)).rowcount} rows"  # type: ignore[attr-defined]
        except IntegrityError:
            return "has children"

    return act


@pytest.mark.attack(52)
async def test_the_deletion_of_a_parent_tells_of_no_child_of_another_tenant(
    driver: Driver, a: Tenant, b: Tenant
) -> None:
    await work(driver, a, lambda session: save(session, Project(id=50, name="alpha")))
    with pytest.raises(IntegrityError):
        await work(driver, b, lambda session: save(session, Task(project_id=50)))
    assert await work(driver, a, childless(Project, 50)) == "1 rows"


@pytest.mark.breach(52)
async def test_a_key_without_the_tenant_lets_a_deletion_tell_of_anothers_child(
    driver: Driver, a: Tenant, b: Tenant
) -> None:
    await work(driver, a, lambda session: save(session, Author(id=50, name="alpha")))
    await work(driver, b, lambda session: save(session, Document(title="bravo", author_id=50)))
    assert await work(driver, a, childless(Author, 50)) == "has children"
