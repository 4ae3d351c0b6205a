"""Alembic operations that isolate and share tables, and an autogenerate that sees which tables need them.

`import tenantry.alembic` in `env.py` registers `op.isolate_table`, `op.share_table` and `op.drop_isolation`. What a
table is to tenants is stated by its model (`TenantScoped`, `isolated()`, `shared()`) and remembered by the database
(`tenantry.table_isolation`); autogenerate writes the operations that bring the second to the first. It leaves alone
what isolation itself made (the foreign key to tenants, the tenant's index, the column's default and NOT NULL), the
schema `tenantry`, and tables whose model says nothing.

Migrations run as the tables' owner, who also holds what `tenantry db migrate --app-role` grants.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import comparators, renderers
from alembic.operations import MigrateOperation, Operations, ops
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import Column, ForeignKey, Select, Table, Text, cast, func, inspect, literal, select, text
from sqlalchemy.dialects.postgresql import JSONB, REGCLASS
from sqlalchemy.exc import DBAPIError

from tenantry import mirror
from tenantry.errors import SchemaError
from tenantry.sqlalchemy import INFO, TableIsolation, isolation_of

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

_Name = tuple[str | None, str]  # schema (None: the default one) and table
_SCHEMA = "tenantry"


# --- operations -------------------------------------------------------------------------------------------------------


class _TableOp(MigrateOperation):
    """An operation of ours on one table. `before` is what the table was, for the way back; None where not known."""

    def __init__(self, table_name: str, *, schema: str | None = None, before: TableIsolation | None = None) -> None:
        self.table_name = table_name
        self.schema = schema
        self.before = before


@Operations.register_operation("isolate_table")
class IsolateTableOp(_TableOp):
    """Puts a table behind tenant isolation: see isolate_table_v1."""

    def __init__(
        self, table_name: str, isolation: TableIsolation, *, backfill: str | None = None, **place: Any
    ) -> None:
        super().__init__(table_name, **place)
        self.isolation = isolation
        self.backfill = backfill

    @classmethod
    def isolate_table(
        cls,
        operations: Operations,
        table_name: str,
        *,
        column: str = "tenant_id",
        key: str | None = None,
        backfill: str | None = None,
        permissions: Mapping[str, str] | None = None,
        schema: str | None = None,
    ) -> None:
        """Puts a table behind tenant isolation; again after ALTERs, it mends what they broke.

        `column` holds the tenant, as which `key` of tenants it says (`id`, `clerk_org_id`); `backfill` names the tenant
        of the rows that have none; `permissions` (`{"delete": "org:documents:delete"}`) are what a member must hold.
        Raises TableNotIsolable, saying why.
        """
        isolation = TableIsolation("isolated", column, key, dict(permissions or {}))
        operations.invoke(cls(table_name, isolation, backfill=backfill, schema=schema))

    def reverse(self) -> MigrateOperation:
        if self.before is not None:
            return IsolateTableOp(self.table_name, self.before, schema=self.schema, before=self.isolation)
        return DropIsolationOp(self.table_name, schema=self.schema, before=self.isolation)

    def to_diff_tuple(self) -> tuple[object, ...]:
        return ("isolate_table", self.schema, self.table_name)

    def options(self) -> dict[str, object]:
        """The options that are not the default ones."""
        column, key = self.isolation.column, self.isolation.key
        given = {
            "column": None if column == "tenant_id" else column,
            "key": None if key == ("id" if column == "tenant_id" else "clerk_org_id") else key,
            "backfill": self.backfill,
            "permissions": dict(self.isolation.permissions),
        }
        return {name: value for name, value in given.items() if value}


@Operations.register_operation("share_table")
class ShareTableOp(_TableOp):
    """States that a table belongs to no tenant: see share_table_v1."""

    def __init__(self, table_name: str, mode: str, **place: Any) -> None:
        super().__init__(table_name, **place)
        self.mode = mode

    @classmethod
    def share_table(
        cls, operations: Operations, table_name: str, *, mode: str = "read", schema: str | None = None
    ) -> None:
        """States that a table belongs to no tenant: each may read it, `write` it, or none sees it (`none`)."""
        operations.invoke(cls(table_name, mode, schema=schema))

    def reverse(self) -> MigrateOperation:
        mode = self.before.mode if self.before else "none"
        return ShareTableOp(self.table_name, mode, schema=self.schema, before=TableIsolation(self.mode))

    def to_diff_tuple(self) -> tuple[object, ...]:
        return ("share_table", self.schema, self.table_name, self.mode)


@Operations.register_operation("drop_isolation")
class DropIsolationOp(_TableOp):
    """Takes a table out of isolation: see drop_isolation_v1."""

    @classmethod
    def drop_isolation(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """Takes a table out of isolation, and every right on it from tenants; the column stays."""
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> MigrateOperation:
        before = self.before or TableIsolation("isolated", "tenant_id", "id")
        return IsolateTableOp(self.table_name, before, schema=self.schema)

    def to_diff_tuple(self) -> tuple[object, ...]:
        return ("drop_isolation", self.schema, self.table_name)


# --- running them -----------------------------------------------------------------------------------------------------


@Operations.implementation_for(IsolateTableOp)
def _isolate(operations: Operations, op: IsolateTableOp) -> None:
    _call(operations, "isolate_table_v1", op, cast(literal(json.dumps(op.options()), Text), JSONB))


@Operations.implementation_for(ShareTableOp)
def _share(operations: Operations, op: ShareTableOp) -> None:
    _call(operations, "share_table_v1", op, literal(op.mode, Text))


@Operations.implementation_for(DropIsolationOp)
def _drop(operations: Operations, op: DropIsolationOp) -> None:
    _call(operations, "drop_isolation_v1", op)


def _call(operations: Operations, function: str, op: _TableOp, *arguments: Any) -> None:
    """Runs the function on the operation's table; with `--sql` it is printed. Raises our errors, not the driver's."""
    quote = operations.get_context().dialect.identifier_preparer.quote
    relation = ".".join(quote(part) for part in (op.schema, op.table_name) if part)
    call: Select[Any] = select(getattr(func.tenantry, function)(cast(literal(relation, Text), REGCLASS), *arguments))
    try:
        operations.execute(call)
    except DBAPIError as error:
        raise mirror.read_error(error) or error from None


# --- writing them -----------------------------------------------------------------------------------------------------


@renderers.dispatch_for(IsolateTableOp)
def _render_isolate(context: AutogenContext, op: IsolateTableOp) -> str:
    return _render(context, "isolate_table", op, op.options())


@renderers.dispatch_for(ShareTableOp)
def _render_share(context: AutogenContext, op: ShareTableOp) -> str:
    return _render(context, "share_table", op, {"mode": op.mode})


@renderers.dispatch_for(DropIsolationOp)
def _render_drop(context: AutogenContext, op: DropIsolationOp) -> str:
    return _render(context, "drop_isolation", op, {})


def _render(context: AutogenContext, name: str, op: _TableOp, options: Mapping[str, object]) -> str:
    given = {**options, "schema": op.schema} if op.schema else options
    arguments = [repr(op.table_name), *(f"{option}={value!r}" for option, value in given.items())]
    return f"{context.opts['alembic_module_prefix']}{name}({', '.join(arguments)})"


# --- seeing which are needed ------------------------------------------------------------------------------------------


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST, qualifier="postgresql")
def _compare(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: Sequence[str | None]
) -> PriorityDispatchResult:
    """After Alembic's own comparison: takes out what isolation made, and adds what the models ask for."""
    known = _read_isolation(context)
    tables = [table for table in context.sorted_tables if table.schema in schemas and _included(context, table)]
    stated = {(table.schema, table.name): isolation for table in tables if (isolation := isolation_of(table))}
    columns = {name: isolation.column for name, isolation in (known | stated).items() if isolation.column}

    _prune(upgrade_ops, columns)
    left = {name: now for name, now in known.items() if _leaves(name, now, stated, upgrade_ops)}
    # First out of isolation, last in: the way back runs the other way round.
    upgrade_ops.ops[:0] = [_withdraw(name, now) for name, now in left.items()]
    for name, wanted in stated.items():
        now = None if name in left else known.get(name)
        if wanted != now:
            upgrade_ops.ops.append(_establish(name, wanted, now))
    return PriorityDispatchResult.CONTINUE


def _read_isolation(context: AutogenContext) -> dict[_Name, TableIsolation]:
    """What the database has each table down as."""
    connection = context.connection
    if connection is None or not inspect(connection).has_table("table_isolation", schema=_SCHEMA):
        raise SchemaError("The database has no tenantry schema.", hint="Run `tenantry db migrate` before Alembic.")
    rows = connection.execute(
        text("""
            select nullif(n.nspname, :default), c.relname, i.mode, i.tenant_column, i.tenant_key, i.permissions::text
            from tenantry.table_isolation i
            join pg_class c on c.oid = i.relation
            join pg_namespace n on n.oid = c.relnamespace"""),
        {"default": connection.dialect.default_schema_name},
    )
    return {
        (schema, name): TableIsolation(mode, column, key, json.loads(permissions))
        for schema, name, mode, column, key, permissions in rows
    }


def _included(context: AutogenContext, table: Table) -> bool:
    return context.run_object_filters(table, table.name, "table", False, None)


def _leaves(
    name: _Name, now: TableIsolation, stated: Mapping[_Name, TableIsolation], upgrade_ops: ops.UpgradeOps
) -> bool:
    """Whether a table is dropped, or becomes shared, or stops being so."""
    if wanted := stated.get(name):
        return (wanted.mode == "isolated") != (now.mode == "isolated")
    return any(isinstance(op, ops.DropTableOp) and (op.schema, op.table_name) == name for op in upgrade_ops.ops)


def _withdraw(name: _Name, now: TableIsolation) -> MigrateOperation:
    schema, table = name
    if now.mode == "isolated":
        return DropIsolationOp(table, schema=schema, before=now)
    return ShareTableOp(table, "none", schema=schema, before=now)


def _establish(name: _Name, wanted: TableIsolation, now: TableIsolation | None) -> MigrateOperation:
    schema, table = name
    if wanted.mode == "isolated":
        return IsolateTableOp(table, wanted, schema=schema, before=now)
    return ShareTableOp(table, wanted.mode, schema=schema, before=now)


def _prune(container: ops.OpContainer, columns: Mapping[_Name, str]) -> None:
    """Takes out of the proposed changes what isolation made; a container left empty goes too."""
    kept: list[MigrateOperation] = []
    for op in container.ops:
        if isinstance(op, ops.OpContainer):
            _prune(op, columns)
            if not op.is_empty():
                kept.append(op)
        elif not _is_made_by_isolation(op, columns):
            kept.append(_as_written(op, columns))
    container.ops[:] = kept


def _is_made_by_isolation(op: MigrateOperation, columns: Mapping[_Name, str]) -> bool:
    if getattr(op, "schema", None) == _SCHEMA:
        return True
    if isinstance(op, ops.AlterColumnOp) and columns.get((op.schema, op.table_name)) == op.column_name:
        op.modify_nullable, op.modify_server_default = None, False
        return not op.has_changes()
    if isinstance(op, ops.DropConstraintOp) and (op.schema, op.table_name) in columns:
        constraint: Any = op.to_constraint()
        return any(_refers_to_tenants(element) for element in getattr(constraint, "elements", ()))
    if isinstance(op, ops.DropIndexOp):
        index = op.to_index()
        column = columns.get((op.schema, op.table_name or ""))
        return column is not None and [c.name for c in index.columns] == [column] and not index.unique
    return False


def _refers_to_tenants(element: ForeignKey) -> bool:
    return element.target_fullname == f"{_SCHEMA}.tenants.id"


def _as_written(op: MigrateOperation, columns: Mapping[_Name, str]) -> MigrateOperation:
    """What the model says of tenants stays in the model. And a tenant column is added bare to a table that is there:
    isolate_table fills it, and only then can it have its default and NOT NULL."""
    if isinstance(op, ops.CreateTableOp):
        op.info = {name: value for name, value in op.info.items() if name != INFO}
    if isinstance(op, ops.AddColumnOp) and columns.get((op.schema, op.table_name)) == op.column.name:
        return ops.AddColumnOp(op.table_name, Column(op.column.name, op.column.type), schema=op.schema)
    return op
