"""Whatever is asked, and however: rows of the session's tenant alone, with the tenant's predicate in the statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Table, case, delete, exists, func, insert, literal, select, text, union, union_all, update
from sqlalchemy.orm import (
    Bundle,
    Session,
    aliased,
    contains_eager,
    joinedload,
    lazyload,
    raiseload,
    selectinload,
    subqueryload,
    undefer,
)

from databases import SUPERUSER
from orm.world import ISOLATED, Author, Document, Driver, Project, Task, acting, own, titles, told, uuid
from sql.tenants import Tenant, World, run

Ask = Callable[[Session], Any]
AUTHORS: Table = Author.__table__  # type: ignore[assignment]
DOCUMENTS: Table = Document.__table__  # type: ignore[assignment]


def _loaded(*options: Any) -> Ask:
    def ask(session: Session) -> Any:
        found = session.scalars(select(Author).options(*options)).unique().all()
        return [(author.name, [document.title for document in author.documents]) for author in found]

    return ask


def _parents(*options: Any) -> Ask:
    def ask(session: Session) -> Any:
        found = session.scalars(select(Document).options(*options)).all()
        return [(document.title, document.author and document.author.name) for document in found]

    return ask


def _union(kind: Any) -> Ask:
    def ask(session: Session) -> Any:
        both = kind(select(Document.title), select(Author.name))
        return session.scalars(both).all()

    return ask


def _of_union(session: Session) -> Any:
    both = union_all(select(Document).where(Document.id > 0), select(Document).where(Document.id < 0)).subquery()
    return [document.title for document in session.scalars(select(aliased(Document, both)))]


def _aliased(session: Session) -> Any:
    one, other = aliased(Document), aliased(Document)
    return [tuple(pair) for pair in session.execute(select(one.title, other.title).join(other, literal(True)))]


def _cte(session: Session) -> Any:
    found = select(Document.title.label("title")).cte()
    return session.scalars(select(found.c.title)).all()


def _recursive(session: Session) -> Any:
    tree = select(Document.id.label("id"), Document.title.label("title")).where(Document.id <= 2).cte(recursive=True)
    step = aliased(Document)
    tree = tree.union_all(select(step.id, step.title).where(step.id == tree.c.id + 2, step.id <= 4))
    return session.scalars(select(tree.c.title)).all()


def _subquery(session: Session) -> Any:
    found = select(Document.title).subquery()
    return session.scalars(select(found.c.title)).all()


def _lateral(session: Session) -> Any:
    found = select(Document.title).where(Document.author_id == Author.id).lateral()
    return session.scalars(select(found.c.title).join_from(Author, found, literal(True))).all()


def _outer_joined(session: Session) -> Any:
    strangers = select(Author.name, Document.title).outerjoin(Document, Document.id == 2)
    return [tuple(row) for row in session.execute(strangers)]


def _eager(session: Session) -> Any:
    found = select(Document).join(Document.author).options(contains_eager(Document.author))
    return [document.author and document.author.name for document in session.scalars(found)]


def _updated_table(session: Session) -> Any:
    changed = update(DOCUMENTS).values(title=DOCUMENTS.c.title)
    return session.scalars(changed.returning(DOCUMENTS.c.title)).all()


def _exists(session: Session) -> Any:
    others = exists().where(Document.title.like("bravo%"))
    return session.scalars(select(case((others, "bravo"), else_="alpha")).select_from(Author)).all()


def _exists_alone(session: Session) -> Any:
    others = exists().where(Document.title.like("bravo%"))
    return session.scalars(select(case((others, "bravo"), else_="alpha"))).all()


def _scalar_subquery(session: Session) -> Any:
    newest = select(func.max(Document.title)).scalar_subquery()
    return session.scalars(select(newest)).all()


def _counted(session: Session) -> Any:
    return [f"{session.scalar(select(func.count()).select_from(Document))} of alpha"]


def _streamed(session: Session) -> Any:
    return [d.title for part in session.scalars(select(Document)).partitions(1) for d in part]


def _refreshed(session: Session) -> Any:
    document = session.scalars(select(Document).order_by(Document.id.desc())).all()[0]
    session.refresh(document)
    session.expire(document)
    return [document.title]


def _populated(session: Session) -> Any:
    session.scalars(select(Document)).all()
    return [d.title for d in session.scalars(select(Document).execution_options(populate_existing=True))]


def _updated(session: Session) -> Any:
    changed = update(Document).values(title=Document.title + "!").returning(Document.title)
    return session.scalars(changed).all()


def _updated_from(session: Session) -> Any:
    changed = update(Document).where(Document.author_id == Author.id).values(title=Author.name)
    return session.scalars(changed.returning(Document.title)).all()


def _deleted(session: Session) -> Any:
    return session.scalars(delete(Document).returning(Document.title)).all()


def _deleted_by_subquery(session: Session) -> Any:
    chosen = select(Document.id).scalar_subquery()
    return session.scalars(delete(Document).where(Document.id.in_(chosen)).returning(Document.title)).all()


def _nested_loads(session: Session) -> Any:
    path = selectinload(Author.documents).joinedload(Document.author).selectinload(Author.documents)
    return [
        (author.name, [(d.title, d.author and [x.title for x in d.author.documents]) for d in author.documents])
        for author in session.scalars(select(Author).options(path))
    ]


def _composite(session: Session) -> Any:
    found = session.scalars(select(Task).options(joinedload(Task.project)))
    return [task.project.name for task in found]


ORM: dict[str, Ask] = {
    "entities": lambda s: [d.title for d in s.scalars(select(Document))],
    "columns": lambda s: s.scalars(select(Document.title)).all(),
    "rows": lambda s: [tuple(r) for r in s.execute(select(Document, Document.title)).all()] and titles(s),
    "bundle": lambda s: [tuple(r.b) for r in s.execute(select(Bundle("b", Document.title, Document.id)))],  # type: ignore[var-annotated]
    "legacy query": lambda s: [d.title for d in s.query(Document)],
    "legacy query with joins": lambda s: [d.title for d in s.query(Document).join(Document.author)],
    "get": lambda s: [s.get(Document, 2) is None and s.get(Document, 1).title],  # type: ignore[union-attr]
    "get for update": lambda s: [s.get(Document, 1, with_for_update=True).title],  # type: ignore[union-attr]
    "filtered": lambda s: s.scalars(select(Document.title).where(Document.id.in_([1, 2, 3, 4]))).all(),
    "widened by or": lambda s: s.scalars(select(Document.title).where((Document.id == 1) | literal(True))).all(),
    "joined": lambda s: s.scalars(select(Document.title).join(Author, literal(True))).all(),
    "outer joined": lambda s: s.scalars(select(Author.name).outerjoin(Author.documents)).all(),
    "outer joined to strangers": lambda s: s.execute(
        select(Author.name, Document.title).outerjoin(Document, Document.id == 2)
    ).all(),
    "selected from": lambda s: s.scalars(select(func.max(Document.title)).select_from(Document)).all(),
    "grouped": lambda s: s.scalars(select(Document.title).group_by(Document.title)).all(),
    "distinct": lambda s: s.scalars(select(Document.title).distinct()).all(),
    "window": lambda s: [tuple(r) for r in s.execute(select(Document.title, func.lead(Document.title).over()))],
    "count": _counted,
    "aliased": _aliased,
    "cte": _cte,
    "recursive cte": _recursive,
    "subquery": _subquery,
    "lateral": _lateral,
    "exists": _exists,
    "any": lambda s: s.scalars(select(Author.name).where(Author.documents.any(Document.title.like("%o%")))).all(),
    "has": lambda s: s.scalars(select(Document.title).where(Document.author.has(Author.id > 0))).all(),
    "scalar subquery": _scalar_subquery,
    "union": _union(union),
    "union all": _union(union_all),
    "entity of a union": _of_union,
    "column property": lambda s: [f"{a.written} of {a.name}" for a in s.scalars(select(Author))],
    "lazy one to many": _loaded(lazyload(Author.documents)),
    "lazy many to one": _parents(lazyload(Document.author)),
    "joined one to many": _loaded(joinedload(Author.documents)),
    "joined many to one": _parents(joinedload(Document.author)),
    "selectin one to many": _loaded(selectinload(Author.documents)),
    "selectin many to one": _parents(selectinload(Document.author)),
    "subquery load": _loaded(subqueryload(Author.documents)),
    "contains eager": lambda s: [
        d.author and d.author.name
        for d in s.scalars(select(Document).join(Document.author).options(contains_eager(Document.author)))
    ],
    "raise load": lambda s: [d.title for d in s.scalars(select(Document).options(raiseload("*")))],
    "undeferred": lambda s: [d.title for d in s.scalars(select(Document).options(undefer(Document.title)))],
    "nested loads": _nested_loads,
    "composite key": _composite,
    "streamed": _streamed,
    "refreshed and expired": _refreshed,
    "populate existing": _populated,
    "for update": lambda s: s.scalars(select(Document.title).with_for_update()).all(),
    "update": _updated,
    "update from": _updated_from,
    "delete": _deleted,
    "delete by subquery": _deleted_by_subquery,
}

CORE: dict[str, Ask] = {
    "text": lambda s: s.scalars(text("select title from documents")).all(),
    "from statement": lambda s: [
        d.title for d in s.scalars(select(Document).from_statement(text("select * from documents")))
    ],
    "exists without an entity": _exists_alone,
    "text as a from": lambda s: s.scalars(select(text("title")).select_from(text("documents"))).all(),
    "table": lambda s: s.scalars(select(DOCUMENTS.c.title)).all(),
    "table on the connection": lambda s: s.connection().execute(select(DOCUMENTS.c.title)).scalars().all(),
    "driver sql": lambda s: s.connection().exec_driver_sql("select title from documents").scalars().all(),
    "table update": _updated_table,
    "table delete": lambda s: s.scalars(delete(DOCUMENTS).returning(DOCUMENTS.c.title)).all(),
    "insert from select": lambda s: s.scalars(
        insert(AUTHORS).from_select(["name"], select(DOCUMENTS.c.title)).returning(AUTHORS.c.name)
    ).all(),
}


def _drop_predicate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantry.sqlalchemy._add_predicate", lambda state: None)


async def _ask(driver: Driver, tenant: Tenant, asks: dict[str, Ask]) -> dict[str, str]:
    """Each in a session of its own, which is rolled back."""
    with acting(tenant):
        return {name: told(await driver.run(ask)) for name, ask in asks.items()}


@pytest.mark.attack(41, 46)
async def test_a_query_finds_the_rows_of_its_tenant_alone(driver: Driver, a: Tenant, b: Tenant) -> None:
    with acting(b):
        await driver.run(titles)  # the one connection has served the other tenant
    found = await _ask(driver, a, ORM | CORE)
    assert {name for name, rows in found.items() if b.sentinel in rows} == set()
    assert {name for name, rows in found.items() if a.sentinel not in rows} == set()


@pytest.fixture
def open_tables(world: World) -> Iterator[World]:
    """Row level security is gone: what holds then is the predicate."""
    with world.connect(SUPERUSER) as connection:
        run(connection, *(f"alter table {table} disable row level security" for table in ISOLATED))
        yield world
        run(connection, *(f"alter table {table} enable row level security" for table in ISOLATED))


@pytest.mark.attack(46)
async def test_without_row_level_security_the_predicate_alone_holds(
    open_tables: World, driver: Driver, a: Tenant, b: Tenant
) -> None:
    found = await _ask(driver, a, ORM)
    assert {name for name, rows in found.items() if b.sentinel in rows} == set()


@pytest.mark.breach(41, 46)
async def test_without_both_defences_the_other_tenant_leaks(
    open_tables: World, driver: Driver, a: Tenant, b: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shows that the tests above can fail; Core's statements carry no predicate in the first place."""
    assert all(b.sentinel in rows for rows in (await _ask(driver, a, CORE)).values())
    _drop_predicate(monkeypatch)
    safe = {name for name, rows in (await _ask(driver, a, ORM | CORE)).items() if b.sentinel not in rows}
    assert safe <= {"get", "get for update", "count", "column property"}


async def test_without_the_predicate_row_level_security_alone_holds(
    driver: Driver, a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drop_predicate(monkeypatch)
    with acting(a):
        assert await driver.run(titles) == own(a)
    assert "WHERE" not in driver.sent[-1][0]


async def test_the_statement_carries_the_tenant_once_for_each_table(driver: Driver, a: Tenant) -> None:
    def ask(session: Session) -> None:
        document = session.scalars(select(Document).where(Document.id == 1)).one()
        assert document.author is not None
        assert document.author.documents == [document]

    with acting(a):
        await driver.run(ask)
    assert len(driver.sent) == 3
    for statement, parameters in driver.sent:
        values = list(parameters.values() if isinstance(parameters, dict) else parameters)
        main = statement.rpartition("WHERE")[2]
        assert main.count("tenant_id = ") == 1, statement
        assert uuid(a) in values


@pytest.mark.attack(50)
async def test_a_cached_statement_answers_each_tenant_with_its_own_rows(driver: Driver, a: Tenant, b: Tenant) -> None:
    for tenant in (a, b, b, a):
        with acting(tenant):
            assert await driver.run(titles) == own(tenant)
    for tenant in (b, a):
        with acting(tenant):
            assert await driver.run(ORM["joined many to one"]) == [
                (f"{tenant.sentinel} one", tenant.sentinel),
                (f"{tenant.sentinel} two", None),
            ]


@pytest.mark.attack(44)
async def test_a_relationship_of_an_object_just_inserted_stays_in_the_tenant(
    open_tables: World, driver: Driver, a: Tenant
) -> None:
    """It carries no options of a query, so that the predicate has to come from elsewhere."""

    def ask(session: Session) -> Author | None:
        document = Document(title="alpha new", author_id=2)
        session.add(document)
        session.flush()
        return document.author

    with acting(a):
        assert await driver.run(ask) is None


async def test_a_missing_row_and_another_tenants_row_are_the_same(driver: Driver, a: Tenant) -> None:
    def ask(session: Session) -> list[Any]:
        return [session.get(Document, id_) for id_ in (2, 999)] + [session.get(Project, (uuid(a), 2))]

    with acting(a):
        assert await driver.run(ask) == [None, None, None]
