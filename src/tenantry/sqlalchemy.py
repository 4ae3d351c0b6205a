"""SQLAlchemy sessions that serve one tenant: the tenant is set where every transaction begins.

Theory of operation
-------------------
`scoped` gives a sessionmaker whose sessions listen to `after_begin`. There, on the driver's own cursor (a text()
statement would cost five times as much), `set_tenant_v1` enters the tenant of the running scope. All it sets is local
to the transaction: after a commit or rollback the next transaction begins anew, and a pooled connection keeps nothing.
Savepoints need no call, since the tenant was set before them.

Whatever a session sends, it first asks `get_bind` where to: that is where a session without a tenant, of another
tenant, or in a transaction that was refused its tenant stops, before anything is sent. A session is pinned to its first
tenant and user: its identity map would otherwise answer one tenant with another's objects.

Row level security keeps tenants apart. What the ORM adds for models that are `TenantScoped` is the explicit predicate,
which plans better and routes to one shard, and a readable error for an object of another tenant.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload
from uuid import UUID

from sqlalchemy import Connection, Uuid, bindparam, event, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    Mapped,
    MappedColumn,
    ORMExecuteState,
    Session,
    SessionTransaction,
    UOWTransaction,
    declared_attr,
    mapped_column,
    sessionmaker,
    with_loader_criteria,
)

from tenantry import mirror
from tenantry.context import Scope, current_scope
from tenantry.errors import (
    TAINTED,
    ConfigurationError,
    InvalidArgument,
    IsolationError,
    NotProvisioned,
    TenantAlreadySet,
    TenantryError,
)

if TYPE_CHECKING:
    from sqlalchemy import Table

    from tenantry.mirror import Call

INFO = "tenantry"  # where tables and columns keep their TableIsolation
_SCOPE, _REFUSED, _OUTER, _ENTERED, _ADMITTED = (
    f"tenantry_{name}" for name in ("scope", "refused", "outer", "entered", "admitted")
)
_PLACE = "select concat_ws(' ', current_setting('tenantry.tenant_id', true), current_setting('tenantry.user_id', true))"
_S = TypeVar("_S", bound=Session)
_A = TypeVar("_A", bound=AsyncSession)


# --- sessions ---------------------------------------------------------------------------------------------------------


@overload
def scoped(factory: sessionmaker[_S]) -> sessionmaker[_S]: ...
@overload
def scoped(factory: async_sessionmaker[_A]) -> async_sessionmaker[_A]: ...
def scoped(factory: Any) -> Any:
    """A sessionmaker like `factory`, whose sessions see the rows of the running scope's tenant alone.

    Sync or async, on psycopg or asyncpg. Raises ConfigurationError for an engine in AUTOCOMMIT, where nothing can be
    local to a transaction; where only the connection tells, its first transaction raises it.
    """
    if not isinstance(factory, (sessionmaker, async_sessionmaker)):
        raise InvalidArgument(
            f"A {type(factory).__name__} gives no sessions.",
            hint="Give scoped() a sessionmaker or async_sessionmaker, or a pool of psycopg or asyncpg.",
        )
    settings = dict(factory.kw)
    _refuse_autocommit(settings.get("bind"))
    if isinstance(factory, async_sessionmaker):
        sync_class = settings.get("sync_session_class") or factory.class_.sync_session_class
        settings["sync_session_class"] = _confined(sync_class)
        return async_sessionmaker(class_=factory.class_, **settings)
    return sessionmaker(class_=_confined(factory.class_), **settings)


def begun(factory: Any) -> Any:
    """A session of a sessionmaker that `scoped` gave, in a transaction that has entered its tenant already.

    `with` or `async with`, as the sessionmaker is; committed at the end, rolled back on an error.
    """
    return _begun_async(factory) if isinstance(factory, async_sessionmaker) else _begun(factory)


@asynccontextmanager
async def _begun_async(factory: async_sessionmaker[_A]) -> AsyncIterator[_A]:
    async with factory.begin() as session:
        await session.connection()
        yield session


@contextmanager
def _begun(factory: sessionmaker[_S]) -> Iterator[_S]:
    with factory.begin() as session:
        session.connection()
        yield session


def _confined(session_class: type[Session]) -> type[Session]:
    """A subclass of one tenant, so that the app's other sessions of this class stay as they are."""
    if issubclass(session_class, _TenantSession):
        return session_class
    confined = type(session_class.__name__, (_TenantSession, session_class), {})
    event.listen(confined, "after_begin", _enter_tenant)
    event.listen(confined, "do_orm_execute", _add_predicate)
    event.listen(confined, "before_flush", _refuse_foreign_objects)
    return confined


class _TenantSession(Session):
    """A session that stops where it must not go on, before it sends or answers anything."""

    def get_bind(self, *args: Any, **kwargs: Any) -> Any:
        _pinned_scope(self).enter()
        transaction, refusal = self.info.get(_REFUSED, (None, None))
        if refusal is not None and transaction is self.get_transaction():
            raise refusal
        bind = super().get_bind(*args, **kwargs)
        if isinstance(bind, Connection):
            self.info.setdefault(_OUTER, set()).add(bind)
        return bind

    def _identity_lookup(self, *args: Any, **kwargs: Any) -> Any:
        _pinned_scope(self)  # `get` of an object the session holds sends nothing
        found = super()._identity_lookup(*args, **kwargs)
        _refuse_foreign_object(self, found)  # a cache may have handed it to the session
        return found


def _pinned_scope(session: Session) -> Scope:
    """The running scope, which must be of the tenant and user the session has served so far."""
    scope = current_scope()
    pinned = session.info.setdefault(_SCOPE, scope.key)
    if pinned != scope.key:
        raise TenantAlreadySet(
            f"This session serves {_name(pinned)}, and the running code {_name(scope.key)}.",
            hint="Open a session for each tenant and user: it keeps the objects it has loaded.",
        )
    if scope.context is None and session.in_transaction():
        scope.context = session.info.get(_ADMITTED)  # entered under another scope of the same tenant and user
    return scope


def _name(key: tuple[str | None, str | None]) -> str:
    tenant, user = key
    return f"{tenant or 'a personal account'} for {user or 'the app itself'}"


# --- entering the tenant ----------------------------------------------------------------------------------------------


def _enter_tenant(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if transaction.nested:
        return
    try:
        driver: Any = connection.connection.dbapi_connection
        if driver.autocommit:
            raise _autocommit()
        scope = _pinned_scope(session)
        scope.context = None  # of the transaction before: a refusal must not leave it standing
        # A transaction that began outside the session is not ours to roll back, and may be in the tenant already.
        enter = _join if connection in session.info.get(_OUTER, ()) else _begin
        session.info[_ADMITTED] = scope.admit(enter(connection, driver, scope))
    except BaseException as refusal:  # a cancellation too leaves a transaction without a tenant
        session.info[_REFUSED] = transaction, refusal  # the session keeps the connection: see get_bind
        if not isinstance(refusal, TenantryError) or (
            isinstance(refusal, TAINTED) and connection not in session.info.get(_OUTER, ())
        ):
            connection.invalidate(refusal)
        raise


def _begin(connection: Connection, driver: Any, scope: Scope) -> str:
    """Enters the tenant in a transaction of the session's own, and makes an unknown tenant known before it."""
    try:
        return _call(connection, driver, scope.enter())
    except NotProvisioned:
        if scope.provision is None:
            raise
    # Nothing but the refused call has run in this transaction: its place is taken by a short one that makes the
    # tenant known, and the session's begins again.
    dialect = connection.dialect
    read_only = dialect.get_readonly(driver)  # type: ignore[attr-defined]  # of PostgreSQL's dialects
    driver.rollback()
    if read_only:
        dialect.set_readonly(driver, False)  # type: ignore[attr-defined]
    try:
        _call(connection, driver, scope.provision)
        driver.commit()
    finally:
        driver.rollback()
        if read_only:
            dialect.set_readonly(driver, True)  # type: ignore[attr-defined]
    return _call(connection, driver, scope.enter())


def _join(connection: Connection, driver: Any, scope: Scope) -> str:
    """Enters the tenant in a transaction that began outside the session, unless one before it has: as tests do."""
    key, answer, place = connection.info.get(_ENTERED, (None, "", None))
    if key == scope.key and place == _fetch(connection, driver, _PLACE):
        return str(answer)
    try:
        with connection.begin_nested():
            answer = _call(connection, driver, scope.enter())
    except NotProvisioned:
        if scope.provision is None:
            raise
        _call(connection, driver, scope.provision)
        answer = _call(connection, driver, scope.enter())
    connection.info[_ENTERED] = scope.key, answer, _fetch(connection, driver, _PLACE)
    return answer


def _call(connection: Connection, driver: Any, call: Call) -> str:
    statement = call.dollar if connection.dialect.driver == "asyncpg" else call.percent
    return _fetch(connection, driver, statement, call.arguments)


def _fetch(connection: Connection, driver: Any, statement: str, arguments: tuple[str | None, ...] = ()) -> str:
    """The one value a statement answers, on the driver's own cursor.

    Raises our errors bare; all others as SQLAlchemy does, which also takes a lost connection out of the pool. The
    arguments are not shown: they tell who is asking.
    """
    cursor = driver.cursor()
    try:
        cursor.execute(statement, arguments)
        return str(cursor.fetchone()[0])
    except BaseException as error:  # noqa: BLE001  # raised again, as ours or by SQLAlchemy
        if known := mirror.read_error(error):
            raise known from None
        connection._handle_dbapi_exception(error, statement, None, None, None)
    finally:
        cursor.close()


def _refuse_autocommit(bind: Any) -> None:
    engine = getattr(bind, "sync_engine", bind)
    if engine is not None and engine.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        raise _autocommit()


def _autocommit() -> ConfigurationError:
    return ConfigurationError(
        "The engine is in AUTOCOMMIT: nothing is local to a transaction there, and no tenant can be set.",
        hint="Give sessions an engine with another isolation level.",
    )


# --- what a table is to tenants ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableIsolation:
    """What a table is to tenants: `mode` is isolated, read, write or none; the rest is of isolated tables."""

    mode: str
    column: str | None = None
    key: str | None = None
    permissions: Mapping[str, str] = field(default_factory=dict)


def isolated(
    *,
    column: str = "tenant_id",
    key: Literal["id", "clerk_org_id"] | None = None,
    permissions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """`__table_args__` of an isolated table, for `alembic revision --autogenerate`; a plain TenantScoped needs none.

    `column` holds the tenant, as which `key` of tenants it says (`clerk_org_id` where the column is not `tenant_id`);
    `permissions` (`{"delete": "org:documents:delete"}`) are what a member must hold. See isolate_table_v1.
    """
    key = key or ("id" if column == "tenant_id" else "clerk_org_id")
    return {"info": {INFO: TableIsolation("isolated", column, key, dict(permissions or {}))}}


def shared(mode: Literal["read", "write", "none"]) -> dict[str, Any]:
    """`__table_args__` of a table that belongs to no tenant: what tenants may do with it. See share_table_v1."""
    return {"info": {INFO: TableIsolation(mode)}}


def isolation_of(table: Table) -> TableIsolation | None:
    """What the model says its table is to tenants; None where it says nothing."""
    stated = (table.info, *(column.info for column in table.columns))
    return next((info[INFO] for info in stated if INFO in info), None)


# --- models -----------------------------------------------------------------------------------------------------------


def tenant_id() -> UUID:
    """The current tenant's id: for column defaults, and for predicates of your own. Raises NoTenant."""
    scope = current_scope()
    if scope.context is None:
        scope.enter()  # raises the reason, if there is one
        raise IsolationError("The tenant is not known before the first transaction begins, or this work concerns none.")
    return scope.context.id


class TenantScoped:
    """Mixin for models of isolated tables: the tenant column, filled in, and the tenant's predicate on every query.

    For a key that carries the tenant, say `__tenant_in_key__ = True`: references can then be composite
    (`ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"])`), which is what keeps a
    row from referring to another tenant's.
    """

    __tenant_in_key__ = False

    if TYPE_CHECKING:
        tenant_id: Mapped[UUID]
    else:  # without an annotation, which models that are dataclasses would refuse to inherit
        tenant_id = declared_attr(lambda cls: _tenant_column(cls.__tenant_in_key__))


def _tenant_column(in_key: bool) -> MappedColumn[UUID]:
    """Filled from the scope when the ORM or Core writes a row, else by the database from the transaction's tenant."""
    return mapped_column(
        Uuid,
        primary_key=in_key,
        nullable=False,
        insert_default=tenant_id,
        server_default=text("tenantry.current_tenant_id()"),
        sort_order=-10,
        info={INFO: TableIsolation("isolated", "tenant_id", "id")},
    )


_TENANT = bindparam("tenantry_tenant_id", callable_=tenant_id, type_=Uuid())
_OWN_ROWS = with_loader_criteria(
    TenantScoped, lambda cls: cls.tenant_id == _TENANT, include_aliases=True, propagate_to_loaders=False
)


def _add_predicate(state: ORMExecuteState) -> None:
    """To every query, lazy loads too: an object just inserted hands none on. SQLAlchemy leaves out refreshes."""
    if state.is_update or state.is_delete:
        _own_tenant(state.session, **state.bind_arguments)  # matched with the session's objects before anything is sent
    if state.is_orm_statement and (state.is_select or state.is_update or state.is_delete):
        state.statement = state.statement.options(_OWN_ROWS)


def _refuse_foreign_objects(session: Session, context: UOWTransaction, instances: object) -> None:
    for row in (*session.new, *session.dirty, *session.deleted):
        _refuse_foreign_object(session, row)


def _refuse_foreign_object(session: Session, row: object) -> None:
    held = vars(row).get("tenant_id") if isinstance(row, TenantScoped) else None  # nothing is loaded for this
    if held is not None and held != (own := _own_tenant(session, mapper=type(row))):
        raise IsolationError(
            f"A {type(row).__name__} of tenant {held} was used under tenant {own}.",
            hint="Load it in a session of its own tenant.",
        )


def _own_tenant(session: Session, **bind_arguments: Any) -> UUID:
    """The session's tenant; begins its transaction, and so enters the tenant, where none has yet."""
    if _pinned_scope(session).context is None:
        session.connection(bind_arguments=bind_arguments)
    return tenant_id()
