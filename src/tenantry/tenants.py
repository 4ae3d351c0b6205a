"""A tenant's rows in all isolated tables: exports them, and deletes those of a deleted tenant.

Which tables those are, and the foreign keys between them, says the database's own catalog. A row goes before the rows
it refers to: table by table where that is possible. Tables whose keys go round in a circle, and one that refers to
itself, are emptied together: first, again and again, the rows that nothing refers to any more; in the end what is left,
in one statement. Every batch is a transaction of its own, and where one was the last, the next purge goes on.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tenantry import mirror
from tenantry.database import run
from tenantry.errors import ConfigurationError, PurgeUnfinished

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

TENANTS = "tenantry.tenants"
BATCH = 1000  # rows a transaction
PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.1
_MIRRORED = {
    TENANTS: "id = $1::uuid",
    # As isolation shows them: a former member's row tells what became of them since, which is not the tenant's.
    "tenantry.users": "id in (select m.user_id from tenantry.tenant_memberships as m"
    " where m.tenant_id = $1::uuid and m.ended_at is null"
    " union all select own.clerk_user_id from tenantry.tenants as own where own.id = $1::uuid)",
    "tenantry.tenant_memberships": "tenant_id = $1::uuid",
    "tenantry.invitations": "tenant_id = $1::uuid",
    "tenantry.domains": "tenant_id = $1::uuid",
}

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Table:
    """An isolated table; names are quoted as SQL needs them. `parts`: it has partitions or children."""

    name: str
    column: str
    key: str
    parts: bool

    def condition(self, place: int = 1) -> str:
        """Which rows are a tenant's, whose `Tenant.value(key)` is the parameter at this place."""
        return f"{self.column} = ${place}::{'uuid' if self.key == 'id' else 'text'}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key to an isolated table or to tenants. `isolated`: whether the table that has it is.

    `readable`: whether the bypass may read that table.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    to: str
    to_columns: tuple[str, ...]
    isolated: bool
    readable: bool

    def matches(self, child: str, parent: str) -> str:
        """Whether a row refers to another, by their aliases."""
        pairs = zip(self.columns, self.to_columns, strict=True)
        return " and ".join(f"{child}.{column} = {parent}.{to}" for column, to in pairs)


@dataclass(frozen=True, slots=True)
class Catalog:
    """What the database knows of isolated tables."""

    tables: dict[str, Table]
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose rows are meant: our id, and Clerk's of the organization or of the person."""

    id: str
    org_id: str | None
    user_id: str | None
    ended: bool
    purged_at: str | None

    def value(self, key: str) -> str | None:
        """What a tenant column of this key holds."""
        return self.id if key == "id" else self.org_id


@dataclass(frozen=True, slots=True)
class Plan:
    """What a purge would do: `steps` in order, tables of one step together; `blockers` say why it may not."""

    tenant: Tenant
    catalog: Catalog
    steps: tuple[tuple[str, ...], ...]
    rows: dict[str, int]
    blockers: tuple[str, ...]


def find_tenant(connection: Connection, name: str) -> Tenant:
    """By our id or Clerk's. Raises UnknownTenant."""
    told = mirror.decode(run(connection, mirror.end_tenant(name, dry_run=True)))
    return Tenant(told["tenant_id"], told["org_id"], told["user_id"], told["ended"], told["purged_at"])


def read_catalog(connection: Connection) -> Catalog:
    """The isolated tables and who refers to them."""
    told = mirror.decode(run(connection, mirror.list_isolated()))
    tables = {one["table"]: Table(one["table"], one["column"], one["key"], one["parts"]) for one in told["tables"]}
    references = tuple(
        Reference(**one | {name: tuple(one[name]) for name in ("columns", "to_columns")}) for one in told["references"]
    )
    return Catalog(tables, references)


def order(catalog: Catalog) -> tuple[tuple[str, ...], ...]:
    """The tables in the order of deletion: who refers comes before what is referred to; circles are one step."""
    after: dict[str, set[str]] = {name: set() for name in catalog.tables}
    for reference in catalog.references:
        if reference.to in after and reference.table in after:
            after[reference.to].add(reference.table)
    return tuple(_components(after))


def _components(before: dict[str, set[str]]) -> Iterator[tuple[str, ...]]:
    """The strongly connected components of a graph, each after those it leads to (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> Iterator[tuple[str, ...]]:
        index[node] = low[node] = len(index)
        stack.append(node)
        for following in sorted(before[node]):
            if following not in index:
                yield from visit(following)
                low[node] = min(low[node], low[following])
            elif following in stack:
                low[node] = min(low[node], index[following])
        if low[node] == index[node]:
            start = stack.index(node)
            found = tuple(stack[start:])
            del stack[start:]
            yield found

    for node in sorted(before):
        if node not in index:
            yield from visit(node)


# --- export -----------------------------------------------------------------------------------------------------------


def export(connection: Connection, tenant: Tenant, folder: Path) -> dict[str, int]:
    """Writes a tenant's rows into a new folder, a file of JSON lines a table, as of one moment; how many of each.

    `manifest.json` comes last: an export without one is not whole. Raises ConfigurationError where the folder is not
    empty, or cannot be written.
    """
    catalog = read_catalog(connection)
    wanted = {name: (table.condition(), tenant.value(table.key)) for name, table in catalog.tables.items()}
    wanted |= {name: (condition, tenant.id) for name, condition in _MIRRORED.items()}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigurationError(f"{folder} is not empty.", hint="Name a folder that does not exist yet.")
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            run(connection, mirror.bypass_tenant(f"export of {tenant.id}"))
            rows = {
                name: _write_rows(connection, folder / f"{quote(name, safe='')}.jsonl", name, *chosen)
                for name, chosen in wanted.items()
            }
        manifest = {
            "tenant_id": tenant.id,
            "org_id": tenant.org_id,
            "user_id": tenant.user_id,
            "exported_at": datetime.now(UTC).isoformat(),
            "rows": rows,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written.", detail=error.strerror) from None
    return rows


def _write_rows(connection: Connection, file: Path, table: str, condition: str, value: str | None) -> int:
    """Streams: neither side holds more than a row."""
    from psycopg.sql import Literal

    mine = condition.replace("$1", Literal(value).as_string(connection))  # COPY takes no parameters
    query = f"copy (select to_json(t)::text from {table} as t where {mine}) to stdout"
    count = 0
    with (
        file.open("x", encoding="utf-8", newline="\n") as lines,
        connection.cursor() as cursor,
        cursor.copy(query.encode()) as copy,
    ):
        for (row,) in copy.rows():
            lines.write(re.sub(r"[\r\n]+", " ", row) + "\n")  # inside a row: blanks between the tokens of a json column
            count += 1
    return count


# --- purge ------------------------------------------------------------------------------------------------------------


def plan(connection: Connection, tenant: Tenant, *, leave: Iterable[str] = ()) -> Plan:
    """What a purge of this tenant would do, and what stands against it. Writes nothing.

    `leave`: tables that are not isolated whose rows may go on referring to the tenant itself. Raises ConfigurationError
    where one of them has no key that does.
    """
    catalog = read_catalog(connection)
    steps = order(catalog)
    rows = {name: 0 for step in steps for name in step}
    blockers = [] if tenant.ended else [_still_live(tenant)]
    left = {_unqualified(name) for name in leave}
    if unknown := left - {_unqualified(one.table) for one in catalog.references if one.to == TENANTS}:
        raise ConfigurationError(f"No foreign key of {min(unknown)} refers to {TENANTS}.", hint="Leave --leave out.")
    with _bypassing(connection, f"plan of a purge of {tenant.id}"):
        for name in rows:
            rows[name] = _count_rows(connection, catalog, name, tenant)
        for reference in catalog.references:
            if not (reference.to == TENANTS and (reference.isolated or _unqualified(reference.table) in left)):
                blockers += _find_blocker(connection, catalog, reference, tenant)
    return Plan(tenant, catalog, steps, rows, tuple(blockers))


def _still_live(tenant: Tenant) -> str:
    way = "Delete it at Clerk; if its webhook does not come, run `tenantry reconcile`"
    if tenant.user_id:  # one whom a listing lacked may come back
        way += f", then `tenantry users erase {tenant.user_id}`"
    return f"{tenant.org_id or tenant.user_id} is not deleted. {way}."


def _find_blocker(connection: Connection, catalog: Catalog, reference: Reference, tenant: Tenant) -> list[str]:
    """Why this foreign key stands against a purge, if it does: rows of nobody or of others refer to the tenant's."""
    if not reference.readable:
        return [
            f"{reference.table} refers to {reference.to} ({reference.name}), and is neither isolated nor shared: "
            "nobody can tell whose rows those are. `tenantry db check` has the fix."
        ]
    target = catalog.tables.get(reference.to)
    values = [tenant.value(target.key) if target else tenant.id]
    chosen = f"parent.{target.condition() if target else _MIRRORED[TENANTS]}"
    others = ""
    if reference.isolated and target:
        child = catalog.tables[reference.table]
        if (child.column, target.column) in zip(reference.columns, reference.to_columns, strict=True):
            return []  # the key itself keeps tenants apart
        others = f" and not (child.{child.condition(2)})"
        values.append(tenant.value(child.key))
    referring = f"{reference.table} as child join {reference.to} as parent on {reference.matches('child', 'parent')}"
    count = _count(connection, f"{referring} where {chosen}{others}", values)
    if not count:
        return []
    if reference.isolated:
        return [f"{count:,} rows of other tenants in {reference.table} refer to rows of this one ({reference.name})."]
    way = f"Delete them, or isolate {reference.table}"
    if reference.to == TENANTS:
        way += f", or let them stay: --leave {_unqualified(reference.table)}"
    of = f"{count:,} rows of {reference.table}, which is not isolated,"
    return [f"{of} refer to {reference.to} ({reference.name}). {way}."]


def purge(
    connection: Connection,
    plan: Plan,
    *,
    batch: int = BATCH,
    progress: Progress = lambda *_: None,
    patience: float = PATIENCE_SECONDS,
) -> dict[str, int]:
    """Deletes the tenant's rows, then what mirror, inbox and feed hold of it; how many of each table.

    Its row in `tenantry.tenants` stays, without content. Transactions that were open before nobody could enter it any
    more are waited for, at most `patience` seconds. Raises ConfigurationError where the plan has blockers or the tenant
    lives again, PurgeUnfinished where rows came meanwhile or still may, and what the database refuses; what is deleted
    by then stays so.
    """
    if plan.blockers:
        raise ConfigurationError("This tenant cannot be purged.", detail="\n".join(plan.blockers))
    if not mirror.decode(run(connection, mirror.end_tenant(plan.tenant.id)))["ended"]:
        raise ConfigurationError("This tenant cannot be purged.", detail=_still_live(plan.tenant))
    earlier = _wait_for_transactions(connection, patience)
    deleted: dict[str, int] = {}

    def note(table: str, rows: int) -> None:
        if rows:
            deleted[table] = deleted.get(table, 0) + rows
            progress(table, rows)

    _delete_rows(connection, plan, batch, note)
    after, done = 0, False
    while not done:
        told = mirror.decode(run(connection, mirror.purge_tenant(plan.tenant.id, after, batch)))
        note(told["table"], told["rows"])
        after, done = told["after"], told["done"]
    _check_nothing_came(connection, plan, earlier)
    return deleted


def _delete_rows(connection: Connection, plan: Plan, batch: int, note: Progress) -> None:
    from psycopg.errors import ForeignKeyViolation

    try:
        for step in plan.steps:
            _Step(connection, plan, step, batch, note).work()
    except ForeignKeyViolation as error:
        said = error.diag
        raise PurgeUnfinished(
            f"Rows that refer to this tenant's came into {said.schema_name}.{said.table_name} meanwhile.",
            detail=f"The foreign key: {said.constraint_name}.",
        ) from None


def _check_nothing_came(connection: Connection, plan: Plan, earlier: set[str]) -> None:
    """Whoever was in the tenant when its end became final could go on writing rows, which nobody would see again."""
    left = len(earlier & _open_transactions(connection))  # first: what the others wrote is counted
    with _bypassing(connection, f"check of a purge of {plan.tenant.id}"):
        counts = {name: _count_rows(connection, plan.catalog, name, plan.tenant) for name in plan.rows}
    if came := ", ".join(f"{count:,} in {name}" for name, count in counts.items() if count):
        raise PurgeUnfinished("Rows came while the tenant was purged.", detail=f"What is left: {came}.")
    if left:
        raise PurgeUnfinished(
            "A transaction that began before the purge is still open, and may add rows of this tenant.",
            detail=f"Transactions: {left:,}. All rows there were are deleted.",
            hint="Run it again when they have ended: pg_stat_activity shows them by xact_start.",
        )


def _wait_for_transactions(connection: Connection, patience: float) -> set[str]:
    """Until those open now have ended; answers those that had not when patience did."""
    deadline = time.monotonic() + patience
    earlier = _open_transactions(connection)
    while earlier and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        earlier &= _open_transactions(connection)
    return earlier


def _open_transactions(connection: Connection) -> set[str]:
    """Those of other sessions of this database, by their virtual ids: every login sees those, and none comes twice."""
    found = connection.execute(
        "select l.virtualxid from pg_locks as l join pg_stat_activity as a using (pid)"
        " where l.locktype = 'virtualxid' and l.mode = 'ExclusiveLock' and l.pid <> pg_backend_pid()"
        " and a.datname = current_database() and a.usesysid is not null"  # not the server's own workers
    )
    return {name for (name,) in found}


_NOT_ITSELF = " and (child.tableoid, child.ctid) <> (t.tableoid, t.ctid)"


class _Step:
    """Tables that are emptied together."""

    def __init__(self, connection: Connection, plan: Plan, names: tuple[str, ...], batch: int, note: Progress) -> None:
        self._connection = connection
        self._tenant = plan.tenant
        self._tables = [plan.catalog.tables[name] for name in names]
        self._within = [one for one in plan.catalog.references if one.to in names and one.table in names]
        self._batch = batch
        self._note = note

    def work(self) -> None:
        enough = self._batch // 10 if self._within else self._batch - 1  # a long chain would be a transaction a row
        while max(self._delete_some(table) for table in self._tables) > enough:
            pass
        if self._within:
            self._delete_rest()

    def _delete_some(self, table: Table) -> int:
        """Deletes rows that no other row of these tables refers to, at most a batch; how many."""
        chosen = f"from {table.name} as t where t.{table.condition()}{self._unreferenced(table)} limit {self._batch}"
        if table.parts:  # a ctid is one partition's alone
            chosen = f"select t.tableoid as part, t.ctid as place {chosen}"
            place = "gone.tableoid = chosen.part and gone.ctid = chosen.place"
            statement = f"delete from {table.name} as gone using ({chosen}) as chosen where {place}"
        else:
            statement = f"delete from {table.name} where ctid = any (array(select t.ctid {chosen}))"
        with _bypassing(self._connection, f"purge of {self._tenant.id}"):
            count = _cursor(self._connection).execute(statement.encode(), [self._tenant.value(table.key)]).rowcount
        self._note(table.name, count)
        return count

    def _unreferenced(self, table: Table) -> str:
        return "".join(
            f" and not exists (select from {one.table} as child where {one.matches('child', 't')}{_NOT_ITSELF})"
            for one in self._within
            if one.to == table.name
        )

    def _delete_rest(self) -> None:
        """In one statement: keys are checked at its end."""
        deletions = [
            f"gone_{n} as (delete from {table.name} where {table.condition(n + 1)} returning 1)"
            for n, table in enumerate(self._tables)
        ]
        counts = [f"(select count(*) from gone_{n})" for n in range(len(self._tables))]
        statement = f"with {', '.join(deletions)} select {', '.join(counts)}"
        with _bypassing(self._connection, f"purge of {self._tenant.id}"):
            values = [self._tenant.value(table.key) for table in self._tables]
            row = _cursor(self._connection).execute(statement.encode(), values).fetchone() or ()
        for table, count in zip(self._tables, row, strict=True):
            self._note(table.name, count)


@contextmanager
def _bypassing(connection: Connection, reason: str) -> Iterator[None]:
    with connection.transaction():
        run(connection, mirror.bypass_tenant(reason))
        yield


def _count_rows(connection: Connection, catalog: Catalog, name: str, tenant: Tenant) -> int:
    table = catalog.tables[name]
    return _count(connection, f"{name} where {table.condition()}", [tenant.value(table.key)])


def _count(connection: Connection, what: str, values: list[str | None]) -> int:
    row = _cursor(connection).execute(f"select count(*) from {what}".encode(), values).fetchone()
    return int(row[0]) if row else 0


def _cursor(connection: Connection) -> psycopg.RawCursor[Any]:
    """Takes parameters as PostgreSQL does, $1: a table's name may contain a percent sign."""
    from psycopg import RawCursor

    return RawCursor(connection)


def _unqualified(name: str) -> str:
    return name.removeprefix("public.")
