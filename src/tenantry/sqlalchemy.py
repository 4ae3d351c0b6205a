"""SQLAlchemy sessions that serve one tenant: the tenant is set where every transaction begins.

Theory of operation
-------------------
`scoped` gives a sessionmaker whose sessions listen to `after_begin`. There, on the driver's own cursor (a text()
statement would cost five times as much), `set_tenant_v1` enters the tenant of the running scope. All it sets is local
to the transaction: after a commit or rollback the next transaction begins anew, and a pooled connection keeps nothing.
Savepoints need no call, since the tenant was set before them.

Row level security keeps tenants apart. What the ORM adds for models that are `TenantScoped` is the explicit predicate,
which plans better and routes to one shard, and errors before any SQL is sent. A session is pinned to its first tenant
and user: its identity map would otherwise answer one tenant with another's objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload
from uuid import UUID

from sqlalchemy import Uuid, bindparam, event, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    Mapped,
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
from tenantry.errors import ConfigurationError, IsolationError, NotProvisioned, TenantAlreadySet

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tenantry.mirror import Call

_SCOPE = "tenantry_scope"
_S = TypeVar("_S", bound=Session)
_A = TypeVar("_A", bound=AsyncSession)


@overload
def scoped(factory: sessionmaker[_S]) -> sessionmaker[_S]: ...
@overload
def scoped(factory: async_sessionmaker[_A]) -> async_sessionmaker[_A]: ...
def scoped(factory: Any) -> Any:
    """A sessionmaker like `factory`, whose sessions see the rows of the running scope's tenant alone.

    Sync or async, on psycopg or asyncpg. Raises ConfigurationError for an engine in AUTOCOMMIT, where nothing can be
    local to a transaction.
    """
    settings = dict(factory.kw)
    _refuse_autocommit(settings.get("bind"))
    if isinstance(factory, async_sessionmaker):
        settings["sync_session_class"] = _listening(
            settings.get("sync_session_class") or factory.class_.sync_session_class
        )
        return async_sessionmaker(class_=factory.class_, **settings)
    return sessionmaker(class_=_listening(factory.class_), **settings)


def tenant_id() -> UUID:
    """The current tenant's id: for column defaults, and for predicates of your own. Raises NoTenant."""
    scope = current_scope()
    if scope.context is None:
        scope.enter()  # raises the reason, if there is one
        raise IsolationError("The tenant is not known before the first transaction begins.")
    return scope.context.id


class TenantScoped:
    """Mixin for models of isolated tables: the tenant column, filled in, and the tenant's predicate on every query.

    For a key that carries the tenant, say `__tenant_in_key__ = True`: references can then be composite
    (`ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"])`), which is what keeps a
    row from referring to another tenant's.
    """

    __tenant_in_key__ = False

    @declared_attr
    def tenant_id(cls) -> Mapped[UUID]:
        """The tenant; set from the scope when the row is written."""
        return mapped_column(
            Uuid,
            primary_key=cls.__tenant_in_key__,
            nullable=False,
            default=tenant_id,
            server_default=text("tenantry.current_tenant_id()"),
            sort_order=-10,
        )


_TENANT = bindparam("tenantry_tenant_id", callable_=tenant_id, type_=Uuid())
_OWN_ROWS = with_loader_criteria(TenantScoped, lambda cls: cls.tenant_id == _TENANT, include_aliases=True)


def _listening(session_class: type[Session]) -> type[Session]:
    """A subclass with our listeners, so that the app's other sessions of this class stay as they are."""
    listening = type(f"Scoped{session_class.__name__}", (session_class,), {})
    event.listen(listening, "after_begin", _enter_tenant)
    event.listen(listening, "do_orm_execute", _add_predicate)
    event.listen(listening, "before_flush", _refuse_foreign_objects)
    return listening


def _enter_tenant(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if transaction.nested:
        return
    scope = _pinned_scope(session)
    entry = scope.enter()  # before anything is sent
    driver: Any = connection.connection.dbapi_connection
    if driver.autocommit:
        raise _autocommit()
    if connection.in_nested_transaction() and _is_inside(driver, connection, scope):
        return
    scope.admit(_call_provisioned(driver, connection, scope, entry))


def _pinned_scope(session: Session) -> Scope:
    """The running scope, which must be of the tenant and user the session has served so far."""
    scope = current_scope()
    pinned = session.info.setdefault(_SCOPE, scope.key)
    if pinned != scope.key:
        raise TenantAlreadySet(
            f"This session serves {pinned[0]}, and the running code {scope.key[0]}.",
            hint="Open a session for each tenant: one keeps the objects it has loaded.",
        )
    return scope


def _call_provisioned(driver: Any, connection: Connection, scope: Scope, entry: Call) -> str:
    try:
        return _call(driver, connection, entry)
    except NotProvisioned:
        if scope.provision is None or connection.in_nested_transaction():
            raise
    # Nothing but the refused call has run in this transaction: its place is taken by a short one that makes the
    # tenant known, and the app's begins again.
    driver.rollback()
    _call(driver, connection, scope.provision)
    driver.commit()
    return _call(driver, connection, entry)


def _call(driver: Any, connection: Connection, call: Call) -> str:
    statement = call.dollar if connection.dialect.driver == "asyncpg" else call.percent
    return str(_fetch(driver, statement, call.arguments))


def _fetch(driver: Any, statement: str, arguments: tuple[str | None, ...] = ()) -> Any:
    cursor = driver.cursor()
    try:
        cursor.execute(statement, arguments)
        return cursor.fetchone()[0]
    except Exception as error:
        known = mirror.read_error(error)
        if known is None:
            raise
        raise known from None
    finally:
        cursor.close()


def _is_inside(driver: Any, connection: Connection, scope: Scope) -> bool:
    """Whether the connection's outer transaction is in the tenant already: a session joined to it, as tests do."""
    inside = _fetch(driver, "select nullif(current_setting('tenantry.tenant_id', true), '')")
    return inside is not None and scope.context is not None and inside == str(scope.context.id)


def _add_predicate(state: ORMExecuteState) -> None:
    if state.is_select or state.is_update or state.is_delete:
        state.statement = state.statement.options(_OWN_ROWS)  # type: ignore[attr-defined]


def _refuse_foreign_objects(session: Session, context: UOWTransaction, instances: object) -> None:
    scope = _pinned_scope(session)
    if scope.context is None:
        session.connection()  # begins, and so enters the tenant
    own = tenant_id()
    for row in (*session.new, *session.dirty, *session.deleted):
        if isinstance(row, TenantScoped) and row.tenant_id not in (None, own):
            raise IsolationError(
                f"A {type(row).__name__} of tenant {row.tenant_id} was used under tenant {own}.",
                hint="Load it in a session of its own tenant.",
            )


def _refuse_autocommit(bind: Any) -> None:
    engine = getattr(bind, "sync_engine", bind)
    if engine is not None and engine.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        raise _autocommit()


def _autocommit() -> ConfigurationError:
    return ConfigurationError(
        "The engine is in AUTOCOMMIT: nothing is local to a transaction there, and no tenant can be set.",
        hint="Give sessions an engine with another isolation level.",
    )
