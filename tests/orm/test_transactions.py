"""Every transaction of a session is in its tenant from its first statement, and none begins without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from databases import OWNER, SUPERUSER
from orm.world import Author, Country, Document, Driver, acting, own, save, stored, titles, token
from sql.tenants import PAST, Tenant, World, membership, organization, read, record, run
from tenantry import mirror
from tenantry import sqlalchemy as adapter
from tenantry.context import Scope, current_tenant, tenant_context, use_scope
from tenantry.errors import (
    ConfigurationError,
    NotAMember,
    NoTenant,
    NotProvisioned,
    TenantAlreadySet,
    TenantryError,
    TokenExpired,
    UnknownTenant,
)
from tenantry.sqlalchemy import scoped

WHO = text("select current_user || ' ' || current_setting('tenantry.tenant_id', true)")

EARLIER = int(time.time()) - 60  # when a token was made that is still valid


def inside(tenant: Tenant) -> str:
    return f"tenantry_tenant {tenant.id}"


# --- where transactions begin -----------------------------------------------------------------------------------------


@pytest.mark.attack(2, 3)
async def test_each_transaction_of_a_session_is_in_its_tenant(driver: Driver, a: Tenant) -> None:
    def work(session: Session) -> None:
        assert session.scalar(WHO) == inside(a)
        session.commit()
        assert session.scalar(WHO) == inside(a)
        session.rollback()
        assert session.scalar(WHO) == inside(a)
        session.close()
        assert session.scalar(WHO) == inside(a)
        session.add(Document(title="alpha three"))
        session.commit()
        assert titles(session) == [*own(a)[:1], "alpha three", *own(a)[1:]]

    with acting(a):
        await driver.run(work)


@pytest.mark.attack(7)
async def test_savepoints_stay_in_the_tenant(driver: Driver, a: Tenant) -> None:
    def work(session: Session) -> None:
        with session.begin_nested():  # the first thing of the transaction
            assert session.scalar(WHO) == inside(a)
            session.add(Document(title="alpha kept"))
        savepoint = session.begin_nested()
        session.add(Document(title="alpha undone"))
        session.flush()
        with session.begin_nested():
            assert session.scalar(WHO) == inside(a)
        savepoint.rollback()
        assert session.scalar(WHO) == inside(a)
        session.commit()
        assert titles(session) == ["alpha kept", *own(a)]

    with acting(a):
        await driver.run(work)


@pytest.mark.attack(3)
async def test_after_an_error_the_session_goes_on_in_its_tenant(driver: Driver, a: Tenant) -> None:
    def work(session: Session) -> None:
        with pytest.raises(DBAPIError):
            session.execute(text("select 1 / 0"))
        session.rollback()
        assert titles(session) == own(a)
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(insert(Document).values(id=1, title="alpha twice"))
        assert titles(session) == own(a)

    with acting(a):
        await driver.run(work)


@pytest.mark.attack(1)
async def test_nothing_of_a_tenant_stays_on_the_pooled_connection(driver: Driver, a: Tenant) -> None:
    def left(connection: Any) -> Any:
        held = "select current_user || coalesce(current_setting('tenantry.tenant_id', true), '')"
        return connection.exec_driver_sql(held).scalar()

    with acting(a):
        for end in (Session.commit, Session.rollback, Session.close):
            await driver.run(lambda session, end=end: (titles(session), end(session)))  # type: ignore[misc]
            assert await driver.on_connection(left) == driver.sync_engine.url.username
    assert len(driver.connects) == 1


def _flush(session: Session) -> None:
    session.add(Document(title="alpha new"))
    session.flush()


FIRST: dict[str, Callable[[Session], Any]] = {
    "get": lambda s: s.get(Document, 1),
    "flush": _flush,
    "commit": lambda s: save(s, Document(title="alpha new")),
    "merge": lambda s: s.merge(Document(id=1, title="alpha merged")),
    "execute": lambda s: s.execute(select(Document)).all(),
    "scalars": lambda s: s.scalars(select(Document)).all(),
    "scalar": lambda s: s.scalar(select(Document)),
    "query": lambda s: s.query(Document).all(),
    "text": lambda s: s.execute(text("select * from documents")).all(),
    "connection": lambda s: s.connection().exec_driver_sql("select * from documents").all(),
    "insert": lambda s: s.execute(insert(Document).values(title="alpha new")),
    "bulk insert": lambda s: s.execute(insert(Document), [{"title": "alpha x"}, {"title": "alpha y"}]),
    "bulk save": lambda s: s.bulk_save_objects([Document(title="alpha new")]),
    "bulk mappings": lambda s: s.bulk_insert_mappings(Document.__mapper__, [{"title": "alpha new"}]),
    "update": lambda s: s.execute(update(Document).values(title="alpha changed")),
    "bulk update": lambda s: s.execute(update(Document), [{"id": 1, "title": "alpha changed"}]),
    "delete": lambda s: s.execute(delete(Document)),
    "insert into the table": lambda s: s.execute(insert(Document.__table__).values(title="alpha new")),  # type: ignore[arg-type]
    "update the table": lambda s: s.execute(update(Document.__table__).values(title="alpha changed")),  # type: ignore[arg-type]
    "delete from the table": lambda s: s.execute(delete(Document.__table__)),  # type: ignore[arg-type]
    "begin": lambda s: s.begin().session.connection().exec_driver_sql("select * from documents").all(),
}


@pytest.mark.attack(4)
async def test_whatever_a_session_does_first_is_in_its_tenant(
    driver: Driver, world: World, a: Tenant, b: Tenant
) -> None:
    others = stored(world, "select title from documents where title like 'bravo%'")
    for name, first in FIRST.items():
        with acting(b):
            await driver.run(titles)  # the one connection has served the other tenant
        with acting(a):
            assert await driver.run(lambda s, first=first: (first(s), s.scalar(WHO))[1]) == inside(a), name  # type: ignore[misc]
    assert stored(world, "select title from documents where title like 'bravo%'") == others


@pytest.mark.attack(4)
@pytest.mark.parametrize("first", ["refresh", "expired attribute", "lazy load", "deferred flush"])
async def test_what_an_object_loads_first_is_in_its_tenant(driver: Driver, a: Tenant, first: str) -> None:
    def work(session: Session) -> None:
        document = session.scalars(select(Document).where(Document.id == 1)).one()
        session.commit()  # the next transaction begins with the object
        match first:
            case "refresh":
                session.refresh(document)
            case "expired attribute":
                assert document.title == own(a)[0]
            case "lazy load":
                assert document.author
                assert document.author.name == a.sentinel
            case "deferred flush":
                document.title = "alpha changed"
                session.flush()
        assert session.scalar(WHO) == inside(a)

    with acting(a):
        await driver.run(work)


async def test_the_context_is_known_once_a_transaction_has_begun(driver: Driver, a: Tenant) -> None:
    with acting(a, role="org:admin", permissions=["org:documents:delete"]):
        with pytest.raises(NoTenant, match="not been entered yet"):
            current_tenant()
        await driver.run(titles)
        tenant = current_tenant()
    assert (str(tenant.id), tenant.org_id, tenant.user_id) == (a.id, a.org_id, a.user_id)
    assert tenant.has(permission="org:documents:delete")


# --- no tenant, refused tenants ---------------------------------------------------------------------------------------


async def test_without_a_tenant_nothing_is_sent(driver: Driver, world: World) -> None:
    for first in FIRST.values():
        with pytest.raises(NoTenant, match="runs for no tenant"):
            await driver.run(first)
    assert (driver.connects, driver.sent) == ([], [])  # not even a connection was made


async def test_a_session_without_a_tenant_stays_refused(world: World, a: Tenant) -> None:
    """Also for a superuser, whom no policy would hold back at the second statement."""
    driver = Driver.open("psycopg", world, SUPERUSER)

    def work(session: Session) -> None:
        for _ in range(3):
            with pytest.raises(NoTenant):
                titles(session)
        with pytest.raises(NoTenant):
            session.connection()

    await driver.run(work)
    with acting(a):
        assert await driver.run(titles) == own(a)
    await driver.dispose()


async def test_a_request_that_was_refused_sends_nothing(driver: Driver) -> None:
    with use_scope(Scope(key=(None, None), error=TokenExpired())):
        with pytest.raises(TokenExpired):
            await driver.run(titles)
        with pytest.raises(TokenExpired):
            current_tenant()
    assert driver.connects == []


@pytest.fixture
def removed(world: World) -> Tenant:
    """Someone who was a member of A's organization until now."""
    now, member = time.time(), Tenant(world.a.id, world.a.org_id, f"user_left_{time.time_ns()}", world.a.sentinel)
    with world.connect() as connection:
        was = membership(f"orgmem_{member.user_id}", member.org_id, member.user_id)
        record(connection, "organizationMembership.created", was, now - PAST)
        record(connection, "organizationMembership.deleted", was, now)
    return member


async def test_a_removed_member_is_told_so_and_the_connection_serves_on(
    driver: Driver, a: Tenant, removed: Tenant
) -> None:
    def work(session: Session) -> None:
        for _ in range(2):
            with pytest.raises(NotAMember, match=removed.user_id):
                titles(session)
        session.rollback()
        session.add(Document(title="alpha sneaked in"))
        with pytest.raises(NotAMember):
            session.commit()

    with acting(removed, issued_at=EARLIER):
        await driver.run(work)
    with acting(a):
        assert await driver.run(titles) == own(a)
    assert (len(driver.connects), len(driver.sent)) == (1, 1)


async def test_a_refusal_does_not_leave_the_earlier_context_standing(driver: Driver, a: Tenant, world: World) -> None:
    leaving = Tenant(a.id, a.org_id, f"user_leaving_{time.time_ns()}", a.sentinel)
    told = membership(f"orgmem_{leaving.user_id}", leaving.org_id, leaving.user_id)
    with world.connect() as connection:
        record(connection, "organizationMembership.created", told, EARLIER - 10)

    def work(session: Session) -> None:
        titles(session)
        assert current_tenant().user_id == leaving.user_id
        session.rollback()
        with world.connect() as connection:
            record(connection, "organizationMembership.deleted", told, time.time())
        with pytest.raises(NotAMember):
            titles(session)
        with pytest.raises(NoTenant):
            current_tenant()

    with acting(leaving, issued_at=EARLIER):
        await driver.run(work)


async def test_another_scope_of_the_same_tenant_and_user_may_go_on_in_a_transaction(driver: Driver, a: Tenant) -> None:
    def work(session: Session) -> None:
        with acting(a):
            titles(session)
        with acting(a):
            assert titles(session) == own(a)
            session.add(Document(title="alpha of the second scope"))
            session.flush()
            assert current_tenant().org_id == a.org_id
            session.rollback()

    await driver.run(work)


@pytest.mark.parametrize("name", ["psycopg-async", "asyncpg"])
async def test_a_cancellation_while_the_tenant_is_made_known_leaves_nothing_open(world: World, name: str) -> None:
    driver = Driver.open(name, world, SUPERUSER)  # whom no policy holds: without a tenant it would see everything
    newcomer = Tenant("", f"org_new_{time.time_ns()}", f"user_new_{time.time_ns()}", "newcomer")
    call_database, called = adapter._call, []

    def cancelled(connection: Any, driver: Any, call: Any) -> str:
        called.append(call.function)
        if call.function == "provision_v1":
            raise asyncio.CancelledError
        return call_database(connection, driver, call)

    with acting(newcomer):
        async with driver.factory()() as session:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(adapter, "_call", cancelled)
                with pytest.raises(asyncio.CancelledError):
                    await session.execute(text("select title from documents"))
            with pytest.raises((PendingRollbackError, asyncio.CancelledError)):
                await session.execute(text("select title from documents"))
    assert called[-1] == "provision_v1"
    await driver.dispose()


async def test_a_session_refused_by_the_database_stays_refused_in_an_outer_transaction(
    world: World, a: Tenant, removed: Tenant
) -> None:
    driver = Driver.open("psycopg", world, SUPERUSER)

    def work(connection: Any) -> None:
        session = driver.joined(connection, join_transaction_mode="create_savepoint")()
        with acting(removed, issued_at=EARLIER):
            for _ in range(2):
                with pytest.raises(NotAMember):
                    titles(session)
            session.close()
        with acting(a):
            assert titles(driver.joined(connection)()) == own(a)

    await driver.on_connection(work)
    await driver.dispose()


async def test_an_unknown_tenant_id_is_told(driver: Driver) -> None:
    with tenant_context("00000000-0000-0000-0000-000000000001", reason="a test"), pytest.raises(UnknownTenant):
        await driver.run(titles)


@pytest.mark.attack(9)
@pytest.mark.parametrize("name", ["psycopg", "psycopg-async", "asyncpg"])
def test_an_engine_in_autocommit_is_refused(world: World, name: str) -> None:
    make: Any = sessionmaker if name == "psycopg" else async_sessionmaker
    engine: Any = Driver.open(name, world).engine.execution_options(isolation_level="AUTOCOMMIT")
    with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        scoped(make(engine))


@pytest.mark.attack(9)
@pytest.mark.parametrize("name", ["psycopg", "psycopg-async", "asyncpg"])
async def test_a_connection_in_autocommit_is_refused_until_the_transaction_ends(
    world: World, a: Tenant, name: str
) -> None:
    by_engine = Driver.open(name, world, isolation_level="AUTOCOMMIT")
    by_session = Driver.open(name, world, SUPERUSER)

    def work(session: Session) -> None:
        with pytest.raises(ConfigurationError):
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        with pytest.raises(ConfigurationError):
            titles(session)
        session.rollback()
        assert titles(session) == own(a)

    with acting(a):
        with pytest.raises(ConfigurationError):
            await by_engine.run(titles)
        await by_session.run(work)
    assert by_engine.sent == []
    await by_engine.dispose()
    await by_session.dispose()


async def test_a_transaction_ended_by_hand_has_no_tenant_left(driver: Driver, a: Tenant) -> None:
    def work(session: Session) -> None:
        titles(session)
        session.connection().exec_driver_sql("rollback")
        with pytest.raises(DBAPIError) as caught:
            titles(session)
        assert isinstance(mirror.read_error(caught.value), NoTenant)

    with acting(a):
        await driver.run(work)


@pytest.mark.attack(14)
async def test_the_databases_own_refusal_is_read_from_any_drivers_error(driver: Driver) -> None:
    def work(connection: Any) -> None:
        connection.exec_driver_sql("select title from documents")

    with pytest.raises(DBAPIError) as caught:
        await driver.on_connection(work)
    known = mirror.read_error(caught.value)
    assert isinstance(known, NoTenant)
    assert known.message == "No tenant is set for this transaction."
    assert "set_tenant_v1" in str(known.hint)


@pytest.mark.attack(60)
async def test_errors_tell_neither_token_nor_statement_arguments(driver: Driver, a: Tenant) -> None:
    facts = token(a, session_id="sess_secret")
    broken = Scope(key=facts.key, entry=mirror.Call("no_such_function", ("jsonb",), facts.entry.arguments))  # type: ignore[union-attr]
    with use_scope(broken), pytest.raises(DBAPIError) as caught:
        await driver.run(titles)
    assert "no_such_function" in str(caught.value)
    assert "sess_secret" not in str(caught.value)


async def test_a_connection_lost_in_the_pool_is_an_operational_error_and_then_replaced(
    driver: Driver, world: World, a: Tenant
) -> None:
    with acting(a):
        await driver.run(titles)
        with world.connect(SUPERUSER) as connection:
            run(connection, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app_login'")
        await asyncio.sleep(0.2)
        with pytest.raises((OperationalError, InterfaceError)) as caught:
            await driver.run(titles)
        assert caught.value.connection_invalidated
        assert await driver.run(titles) == own(a)


# --- an organization's first request ----------------------------------------------------------------------------------


def newcomer() -> Tenant:
    """Of an organization that only its token knows."""
    number = time.time_ns()
    return Tenant("", f"org_new_{number}", f"user_new_{number}", "new")


@pytest.mark.parametrize("options", [{}, {"postgresql_readonly": True}, {"isolation_level": "SERIALIZABLE"}], ids=str)
async def test_an_unknown_organization_is_let_in_at_once(driver: Driver, world: World, options: dict[str, Any]) -> None:
    new = newcomer()

    def work(session: Session) -> list[str]:
        session.connection(execution_options=options)
        read_only = session.scalar(text("show transaction_read_only"))
        assert read_only == ("on" if options.get("postgresql_readonly") else "off")
        return titles(session)

    with acting(new):
        assert await driver.run(work) == []
        assert current_tenant().org_id == new.org_id
    assert stored(world, f"select clerk_org_id from tenantry.tenants where clerk_org_id = '{new.org_id}'") == [
        new.org_id
    ]
    assert len(driver.connects) == 1


async def test_what_an_unknown_organization_writes_first_is_its_own(driver: Driver, world: World) -> None:
    with acting(newcomer()):
        await driver.run(lambda session: save(session, Document(title="new one")))
        assert await driver.run(titles) == ["new one"]
        tenant = current_tenant().id
    assert stored(world, "select tenant_id from documents where title = 'new one'") == [tenant]


async def test_a_refused_provisioning_leaves_the_connection_usable(driver: Driver, a: Tenant) -> None:
    scope = token(newcomer())
    scope.provision = mirror.provision("{}")
    with use_scope(scope), pytest.raises(TenantryError):
        await driver.run(lambda s: s.connection(execution_options={"postgresql_readonly": True}))
    with acting(a):
        await driver.run(lambda s: save(s, Document(title="alpha three")))
    assert len(driver.connects) == 1


async def test_a_job_never_provisions(driver: Driver) -> None:
    scope = token(newcomer())
    scope.provision = None
    with use_scope(scope), pytest.raises(NotProvisioned):
        await driver.run(titles)


# --- an outer transaction, as tests use it ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["create_savepoint", "conditional_savepoint", "rollback_only"])
async def test_sessions_of_a_tenant_share_an_outer_transaction(
    driver: Driver, world: World, a: Tenant, mode: Any
) -> None:
    def work(connection: Any) -> None:
        sessions = driver.joined(connection, join_transaction_mode=mode)
        for number in range(2):  # two requests, each with a scope of its own
            with acting(a), sessions() as session:
                session.add(Document(title=f"alpha three {number}"))
                session.commit()
                assert session.scalar(WHO) == inside(a)
                assert current_tenant().user_id == a.user_id
        with acting(a), sessions() as session:
            assert len(titles(session)) == 4

    await driver.on_connection(work)
    assert stored(world, "select title from documents where title like 'alpha three%'") == []


async def test_an_outer_transaction_lets_an_unknown_organization_in_without_ending(
    driver: Driver, world: World
) -> None:
    new = newcomer()

    def work(connection: Any) -> None:
        connection.exec_driver_sql("create temporary table kept on commit drop as select 1 as n")
        sessions = driver.joined(connection, join_transaction_mode="create_savepoint")
        with acting(new), sessions() as session:
            session.add(Document(title="new one"))
            session.commit()
        connection.exec_driver_sql("reset role")
        assert connection.exec_driver_sql("select n from kept").scalar() == 1

    owner = Driver.open(driver.name, world, OWNER)
    await owner.on_connection(work)
    await owner.dispose()
    assert new.org_id not in stored(world, "select clerk_org_id from tenantry.tenants")


async def test_an_outer_transaction_is_never_rolled_back_for_a_newcomer(world: World) -> None:
    """However the session was given the connection."""
    driver = Driver.open("psycopg", world, OWNER)

    def work(connection: Any) -> None:
        connection.exec_driver_sql("create temporary table kept on commit drop as select 1 as n")
        sessions = scoped(sessionmaker(binds={Document: connection}))
        with acting(newcomer()), sessions() as session:
            assert titles(session) == []
        connection.exec_driver_sql("reset role")
        assert connection.exec_driver_sql("select n from kept").scalar() == 1

    await driver.on_connection(work)
    await driver.dispose()


async def test_an_outer_transaction_serves_one_tenant(driver: Driver, a: Tenant, b: Tenant) -> None:
    def work(connection: Any) -> None:
        with acting(a):
            assert titles(driver.joined(connection)()) == own(a)
        with acting(b), pytest.raises(TenantAlreadySet):
            titles(driver.joined(connection)())

    await driver.on_connection(work)


async def test_an_outer_transaction_entered_by_other_means_is_not_taken_for_ones_own(
    driver: Driver, a: Tenant, b: Tenant
) -> None:
    """What a connection remembers of its last outer transaction says nothing about this one."""

    def first(connection: Any) -> None:
        with acting(a):
            assert titles(driver.joined(connection)()) == own(a)

    def second(connection: Any) -> None:
        connection.exec_driver_sql(f"select tenantry.set_tenant_by_id_v1('{b.id}', 'a test')")
        with acting(a), pytest.raises(TenantAlreadySet):
            titles(driver.joined(connection)())

    await driver.on_connection(first)
    await driver.on_connection(second)


# --- logins -----------------------------------------------------------------------------------------------------------


@pytest.mark.attack(3)
@pytest.mark.parametrize("login", [OWNER, SUPERUSER])
async def test_a_stronger_login_is_confined_as_well(world: World, a: Tenant, login: str) -> None:
    driver = Driver.open("psycopg", world, login)

    def work(session: Session) -> list[str]:
        session.rollback()
        return list(session.scalars(text("select title from documents order by 1")))

    with acting(a):
        assert await driver.run(work) == own(a)
    await driver.dispose()


async def test_shared_tables_are_everyones(driver: Driver, a: Tenant, b: Tenant) -> None:
    with acting(a):
        await driver.run(lambda s: save(s, Country(code="IS")))
    with acting(b):
        assert await driver.run(lambda s: s.scalars(select(Country.code).order_by(Country.code)).all()) == [
            "IS",
            "NO",
            "PT",
        ]


# --- one session, one tenant ------------------------------------------------------------------------------------------


@pytest.mark.attack(42)
async def test_a_session_serves_one_tenant_for_life(driver: Driver, a: Tenant, b: Tenant) -> None:
    def work(session: Session) -> None:
        with acting(a):
            document = session.get(Document, 1)
            assert document is not None
        with acting(b):
            for attempt in (
                lambda: session.get(Document, 1),  # held by the session: would be answered without a statement
                lambda: titles(session),
                lambda: session.execute(text("select 1")),
                lambda: session.connection(),
            ):
                with pytest.raises(TenantAlreadySet, match=r"serves org_alpha for user_alpha, .* org_bravo for user_"):
                    attempt()
            session.rollback()
            with pytest.raises(TenantAlreadySet):
                titles(session)
            document.title = "bravo was here"
            with pytest.raises(TenantAlreadySet):
                session.commit()
        session.close()
        with acting(a):
            assert titles(session) == own(a)

    await driver.run(work)


@pytest.mark.attack(42)
async def test_a_session_serves_one_user_for_life(driver: Driver, a: Tenant) -> None:
    def work(session: Session) -> None:
        with acting(a):
            titles(session)
        with tenant_context(a.id, reason="a test"), pytest.raises(TenantAlreadySet, match="the app itself"):
            titles(session)

    await driver.run(work)


async def test_a_session_in_the_tenant_around_another_is_still_its_own(world: World, a: Tenant, b: Tenant) -> None:
    driver, other = Driver.open("psycopg", world), Driver.open("psycopg", world)
    outer, inner = driver.factory()(), other.factory()()
    with tenant_context(a.id, reason="a test"):
        assert titles(outer) == own(a)
        with tenant_context(b.id, reason="a test"):
            assert titles(inner) == own(b)
            with pytest.raises(TenantAlreadySet):
                titles(outer)
        assert titles(outer) == own(a)
    outer.close()
    inner.close()
    await driver.dispose()
    await other.dispose()


def test_the_apps_other_sessions_stay_as_they_are(world: World) -> None:
    driver = Driver.open("psycopg", world, SUPERUSER)
    plain = sessionmaker(driver.sync_engine)
    with plain() as session:
        assert len(titles(session)) == 4
        session.add(Author(name="of the first tenant", tenant_id=stored(world, "select id from tenantry.tenants")[0]))
        session.flush()
    driver.sync_engine.dispose()


async def test_scoping_twice_enters_once(driver: Driver, a: Tenant) -> None:
    with acting(a):
        factory = scoped(driver.factory())
        session = factory()
        if isinstance(session, AsyncSession):
            async with session:
                assert await session.run_sync(titles) == own(a)
        else:
            with session:
                assert titles(session) == own(a)


async def test_a_job_acts_for_a_tenant_and_a_member(driver: Driver, world: World, a: Tenant, removed: Tenant) -> None:
    with tenant_context(a.id, reason="a test"):
        assert await driver.run(titles) == own(a)
        assert current_tenant().can("anything")
    with tenant_context(a.id, reason="a test", user_id=a.user_id):
        assert await driver.run(titles) == own(a)
        assert current_tenant().role == "org:member"
    with tenant_context(a.id, reason="a test", user_id=removed.user_id), pytest.raises(NotAMember):
        await driver.run(titles)
    with world.connect() as connection:
        record(connection, "organization.created", organization("org_gone"), time.time() - PAST)
        gone = read(connection, "select (tenantry.find_tenant('org_gone')).id")
        record(
            connection,
            "organization.deleted",
            {"id": "org_gone", "object": "organization", "deleted": True},
            time.time(),
        )
    with tenant_context(gone, reason="a test"), pytest.raises(TenantryError, match="deleted"):
        await driver.run(titles)
