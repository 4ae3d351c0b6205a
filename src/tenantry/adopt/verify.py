"""Says whether a move lost or changed anything: counts, checksums, every row's tenant found again by another way.

The derivation here shares nothing with the steps but the plan: it joins each table all the way to whom it belongs, and
asks the mirror, not what the triggers kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenantry import schema as schemas
from tenantry.adopt import answers, drift, identity, record, references, steps, waiting
from tenantry.adopt.catalog import Reference, Schema
from tenantry.adopt.identity import Identity
from tenantry.adopt.names import listing, literal, plain, split
from tenantry.adopt.plan import Decision, Plan, Source, parent_of, reference_of, sort, tenant_column
from tenantry.adopt.record import Entry
from tenantry.adopt.step import Known, Phase
from tenantry.adopt.waiting import Waiting

if TYPE_CHECKING:
    import psycopg

PAGES = 8_192
"""As many of a table are read at once: no snapshot, and no lock, lasts longer than that takes."""

Told = Callable[[str, int, int], None]
"""Is told of a table how many of its pages are read, and how many there are."""


@dataclass(frozen=True, slots=True)
class Count:
    """A table's rows now and when the move began; `same` compares the contents of the columns of then. None is what
    nobody can say: where the move began without reading the rows, or a column is gone."""

    table: str
    rows: int
    before: int | None
    same: bool | None


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind`: lost, changed, gone, tenant, null, waiting, unnamed, crossing, drift, or a code of check_v1."""

    kind: str
    table: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """`notes` say what could not be looked at."""

    phase: Phase | None
    counts: tuple[Count, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        return not self.findings


def measure(
    connection: psycopg.Connection[Any], plan: Plan, schema: Schema, told: Told, *, checksums: bool = True
) -> dict[str, Any]:
    """Columns, rows and checksum of every table of the plan; without `checksums` no row is read."""
    rows = _Rows(connection, (), told)
    measured = {}
    for name in _tables(plan, schema):
        columns = [column.name for column in schema.tables[name].columns]
        number, checksum = rows.sum(name, columns) if checksums else (None, None)
        measured[name] = {"columns": columns, "rows": number, "checksum": checksum}
    return measured


def verify(
    connection: psycopg.Connection[Any], plan: Plan, schema: Schema, *, still: bool = False, told: Told | None = None
) -> Report:
    """Compares the database with the plan. `still`: the app writes nothing meanwhile, so any difference is a finding.

    `schema` is today's. Before isolation it is asked as the tables' owner, after it across tenants.
    """
    entries, move = record.read(connection), record.read_move(connection)
    phase = record.reached(entries)
    tables = _tables(plan, schema)
    rows = _Rows(connection, tables, told or (lambda *_: None))
    then = _Then(connection, move.before, move.tables) if move else None
    counts = tuple(_count(rows, name, then) for name in tables)
    findings = [*_of_counts(counts, still)]
    notes = tuple(then.notes) if then else ()
    gone = [decision.table for decision in plan.decisions if decision.table not in schema.tables]
    lost = "It is not in the database any more. Bring it back, or undo and plan again."
    findings += [Finding("gone", table, lost) for table in gone]
    if gone:  # of the others nobody can tell whose they should be
        return Report(phase, counts, tuple(findings), notes)
    if any(entry.step.phase == "backfill" for entry in entries) and _is_filled(entries):
        findings += _of_tenants(rows, plan, schema, move.known if move else Known())
        findings += _of_references(rows, plan, schema)
        findings += [Finding("unnamed", *told_of) for told_of in waiting.list_unnamed(connection, plan, schema)]
    if phase in ("constrain", "isolate", "contract"):  # from then on the app's organizations follow, if they are to
        left = drift.find_left(connection, plan, schema)
        findings += [Finding("drift", plan.organizations.table, told) for told in left if plan.organizations]
    if phase == "contract":
        findings += _of_isolation(connection, plan, schema)
    return Report(phase, counts, tuple(findings), notes)


def find_unsettled(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> list[Finding]:
    """Rows that have no tenant, or another than their owner; not the latter of tables all of whose rows began as one
    organization's, which may be one of many by now."""
    move = record.read_move(connection)
    rows = _Rows(connection, _tables(plan, schema), lambda *_: None)
    found = _of_tenants(rows, plan, schema, move.known if move else Known())
    return [each for each in found if each.kind != "tenant" or not _is_of_one(plan, schema, each.table)]


def differing(plan: Plan, schema: Schema, known: Known) -> Iterator[tuple[str, str]]:
    """By table the query that counts, across tenants, what `find_unsettled` finds of kind `tenant`."""
    for decision in sort(plan, schema):
        found = tenant_column(plan, schema, decision).is_new and not schema.tables[decision.table].isolation
        if found and not _is_of_one(plan, schema, decision.table):
            yield decision.table, _Derivation(plan, schema, known, across=True).mismatches(decision)


def _is_of_one(plan: Plan, schema: Schema, table: str) -> bool:
    """Whether all rows of a table began as one organization's."""
    decision = plan.of(table)
    while decision is not None and decision.tenant == "reference":
        decision = plan.of(parent_of(schema, decision) or "")
    return decision is not None and decision.tenant == "organization"


def _tables(plan: Plan, schema: Schema) -> list[str]:
    """Those of the plan that are there; of others nobody may be able to tell."""
    return [decision.table for decision in plan.decisions if decision.table in schema.tables]


# --- counts -----------------------------------------------------------------------------------------------------------


class _Then:
    """What was there when the move began."""

    def __init__(
        self, connection: psycopg.Connection[Any], before: Mapping[str, Any], tables: Mapping[str, Identity]
    ) -> None:
        self.before = before
        self.notes: list[str] = []
        self._tables = tables
        self._columns = identity.read_columns(connection, tables)
        if any(told["checksum"] is None for told in before.values()):
            self.notes.append(
                "The move began with --no-checksums: whether rows were lost or changed since, nobody can say."
            )

    def columns(self, table: str) -> list[str] | None:
        """What the columns of then are called now; None where one of them is gone."""
        if self.before[table]["checksum"] is None:
            return None
        numbers = {name: number for number, name in self._tables[table].columns.items()}
        now = self._columns.get(table, {})
        found = {name: now.get(numbers[name]) for name in self.before[table]["columns"]}
        if gone := [name for name, there in found.items() if there is None]:
            self.notes.append(
                f"{table}: {listing(gone)} was dropped: whether its other columns changed, nobody can say."
            )
            return None
        return [name for name in found.values() if name is not None]


def _count(rows: _Rows, table: str, then: _Then | None) -> Count:
    told = then.before.get(table) if then else None
    columns = then.columns(table) if then and told else None
    if told is None or columns is None:
        number = rows.number(f"select count(*) from {table}")
        return Count(table, number, told["rows"] if told else None, None)
    number, checksum = rows.sum(table, columns)
    return Count(table, number, told["rows"], checksum == told["checksum"])


def _of_counts(counts: tuple[Count, ...], still: bool) -> Iterator[Finding]:
    for count in counts if still else ():
        if count.before is not None and count.rows != count.before:
            yield Finding("lost", count.table, f"It had {count.before} rows, and has {count.rows}.")
        elif count.same is False:
            yield Finding("changed", count.table, "Something but the tenant has changed in it.")


# --- tenants ----------------------------------------------------------------------------------------------------------


def _of_tenants(rows: _Rows, plan: Plan, schema: Schema, known: Known) -> Iterator[Finding]:
    asked = waiting.list_queries(plan, schema, known)
    for decision in sort(plan, schema):
        column = tenant_column(plan, schema, decision)
        table = schema.tables[decision.table]
        queries = [f"select count(*) from {table.name} where {column.name} is null"]
        # Behind isolation a row belongs to whom it was written by: a user may write in several tenants.
        if column.is_new and not table.isolation:
            queries.append(_Derivation(plan, schema, known, across=rows.across).mismatches(decision))
        told, found = rows.together(asked.get(table.name), queries)
        late = Waiting(*told)
        if soon := late.without + late.following:
            yield Finding("waiting", table.name, f"{soon} rows wait for the next `tenantry adopt apply`.")
        if late.unnamed:
            moved = f"{late.unnamed} rows wait: no organization is named yet where their user has gone."
            yield Finding("waiting", table.name, moved)
        if (none := found[0] - late.without) > 0:
            lost = rows.number(references.dangling_rows(schema, decision, f"t.{column.name} is null"))
            moved = f" {lost} of them refer to no row of {decision.refers_to}." if lost else ""
            yield Finding("null", table.name, f"{none} rows have no tenant.{moved}")
        for wrong in found[1:]:
            wrong -= late.following + late.unnamed
            if wrong > 0:
                yield Finding("tenant", table.name, f"{wrong} rows have another tenant than their owner.")


class _Derivation:
    """The tenant that each row of a table should have, as one query."""

    def __init__(self, plan: Plan, schema: Schema, known: Known, *, across: bool) -> None:
        self._plan = plan
        self._schema = schema
        self._known = known
        self._across = across

    def mismatches(self, decision: Decision) -> str:
        column = tenant_column(self._plan, self._schema, decision)
        joins, expected, dangling = self._follow(decision, "t0", column.key)
        rest = self._constant(self._plan.rows.rest, column.key) if self._plan.rows.rest else "null"
        lines = [f"with given (kind, key, clerk_id) as ({self._given()})", "select count(*)"]
        lines += [f"from {decision.table} as t0", *joins]
        stored = f"t0.{column.name}"  # rows that have none yet are told of as such
        lines += [f"where {stored} is not null and {stored} is distinct from coalesce({expected}, {rest})"]
        lines += [f"  and not ({condition})" for condition in dangling]  # they keep the tenant of who is gone
        return "\n".join(lines)

    def _follow(self, decision: Decision, row: str, key: str) -> tuple[list[str], str, list[str]]:
        """The joins from a row to whom it belongs, the tenant that stands there, and when the way there breaks off at
        a reference that nothing enforces."""
        if decision.tenant == "organization":
            return [], self._constant(self._plan.rows.organization, key), []
        if decision.tenant == "column":
            return [], f"{row}.{decision.column[0]}", []
        parent = self._plan.of(parent_of(self._schema, decision) or "")
        reference = reference_of(self._schema, decision)
        above = f"t{int(row[1:]) + 1}"
        if parent is not None and reference is not None:
            on = reference.joins(row, above)
            joins, expected, dangling = self._follow(parent, above, key)
            if not reference.enforced:
                dangling.append(references.dangling(reference, row, above))
            return [f"left join {reference.target} as {above} on {on}", *joins], expected, dangling
        source = self._plan.source(self._schema, decision)
        if source is None or not source.table:
            return [], self._resolve(f"{row}.{decision.column[0]}"), []
        on = f"{above}.{source.key} = {row}.{decision.column[0]}"
        clerk_id = self._clerk_id(source, above)
        dangling = [references.dangling(reference, row, above)] if reference and not reference.enforced else []
        return [f"left join {source.table} as {above} on {on}"], self._resolve(clerk_id), dangling

    def _clerk_id(self, source: Source, row: str) -> str:
        rows = self._plan.rows
        if source is self._plan.users and rows.to == "csv":
            return self._look_up("owners", f"{row}.{source.key}::text")
        if source is self._plan.users and rows.to == "column":
            value = f"{row}.{rows.column}::text"
            return self._look_up("values", f"lower(split_part({value}, '@', 2))" if rows.by == "domain" else value)
        kind = "users" if source is self._plan.users else "organizations"
        return f"{row}.{source.clerk_id}" if source.clerk_id else self._look_up(kind, f"{row}.{source.key}::text")

    def _look_up(self, kind: str, key: str) -> str:
        return f"(select g.clerk_id from given as g where g.kind = {literal(kind)} and g.key = {key})"

    def _resolve(self, clerk_id: str) -> str:
        return _resolve(clerk_id, across=self._across)

    def _constant(self, org_id: str, key: str) -> str:
        return literal(org_id) if key == "clerk_org_id" else f"{literal(self._known.tenants.get(org_id, ''))}::uuid"

    def _given(self) -> str:
        lines = [f"({', '.join(map(literal, line))})" for line in self._known.given]
        return f"values {', '.join(lines)}" if lines else "select '', '', '' where false"


def _resolve(clerk_id: str, *, across: bool) -> str:
    """Across tenants the mirror itself can be asked; the owner of the tables has to ask through a function."""
    if not across:
        return f"tenantry.adopt_tenant_v1({clerk_id})"
    known = "select m.id from tenantry.tenants as m where"
    return f"coalesce(({known} m.clerk_org_id = {clerk_id}), ({known} m.clerk_user_id = {clerk_id}))"


def _of_references(rows: _Rows, plan: Plan, schema: Schema) -> Iterator[Finding]:
    for decision, reference, target in _references_between(plan, schema):
        if reference.name in decision.keep:
            continue
        table = decision.table
        ours, theirs = tenant_column(plan, schema, decision), tenant_column(plan, schema, target)
        query = f"select count(*) from {table} as t join {reference.target} as p on {reference.joins('t', 'p')}"
        stored = {ours.key: f"t.{ours.name}", theirs.key: f"p.{theirs.name}"}
        if ours.key == theirs.key:
            query += f" where t.{ours.name} <> p.{theirs.name}"
        else:
            by_name, named = (reference.target, theirs) if ours.key == "id" else (table, ours)
            tenant = _resolve("o.clerk_id", across=rows.across)
            query += (
                f" join (select o.clerk_id, {tenant} as id from (select distinct {named.name} as clerk_id"
                f" from {by_name}) as o) as m on m.clerk_id = {stored['clerk_org_id']} where m.id <> {stored['id']}"
            )
        if crossing := rows.number(query):
            told = f"{crossing} rows refer to another tenant's row of {reference.target} ({reference.name})."
            yield Finding("crossing", table, told)


def _references_between(plan: Plan, schema: Schema) -> Iterator[tuple[Decision, Reference, Decision]]:
    """Every reference between tables that get a tenant."""
    for decision in plan.owned:
        for reference in schema.tables[decision.table].references:
            target = plan.of(reference.target)
            if target is not None and target.is_owned:
                yield decision, reference, target


def _of_isolation(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> Iterator[Finding]:
    """What check_v1 says of the plan's tables, but for what it leaves across tenants on purpose."""
    kept = {(code, _shown(table)) for code, table in steps.kept(plan, schema)}
    tables = {_shown(table) for table in _tables(plan, schema)}
    for found in schemas.check(connection):
        if (found.code, found.object) not in kept and found.object in tables:
            yield Finding(found.code, found.object, found.explanation)


def _shown(table: str) -> str:
    """A table as check_v1 names it, with the usual search path."""
    space, name = split(table)
    return name if plain(space) == "public" else table


def _is_filled(entries: Sequence[Entry]) -> bool:
    """Whether the rows of before have had their tenants; the backfill may be under way once more."""
    phase = record.reached(entries)
    later = any(entry.state == "done" for entry in entries if entry.step.phase in ("constrain", "isolate", "contract"))
    return later or phase not in (None, "expand")


# --- rows -------------------------------------------------------------------------------------------------------------

SETTINGS = (
    "set local timezone = 'UTC'; set local datestyle = 'ISO'; set local intervalstyle = 'iso_8601';"
    " set local extra_float_digits = 1; set local bytea_output = 'hex'"
)
"""With these a text says the same in every session."""
_SIZE = """
select coalesce(max(pg_relation_size(part)), 0) / current_setting('block_size')::bigint
from unnest(%s::regclass || tenantry.partitions_of(%s::regclass)) as part"""


def add_up(table: str, columns: Sequence[str]) -> str:
    """The query of how many rows there are, and of a checksum, whatever their order."""
    row = ", ".join(f"t.{column}" for column in columns)
    return f"select count(*), coalesce(sum(hashtextextended(row({row})::text, 0)::numeric), 0) from {table} as t"


class _Rows:
    """Reads the rows of all tenants: across them, where that is opened already, else as the owner.

    Each query is a transaction of its own, so that neither a snapshot, which keeps vacuum from dead rows, nor a lock,
    behind which an ALTER TABLE and then everybody waits, lasts longer than one of them.
    """

    def __init__(self, connection: psycopg.Connection[Any], tables: Sequence[str], told: Told) -> None:
        self._connection = connection
        self._told = told
        self.across = bool(answers.value(connection, _OPENED, [list(tables)]))

    def number(self, query: str) -> int:
        found = self._read(query)
        return int(found[0]) if found else 0

    def together(self, first: str | None, queries: Sequence[str]) -> tuple[tuple[int, ...], list[int]]:
        """What a query says that is asked as the owner, and numbers, all of one moment."""
        with self._connection.transaction():
            self._connection.execute("set transaction isolation level repeatable read")
            told = self._connection.execute(first.encode()).fetchone() if first else None
            if self.across:
                self._connection.execute("select tenantry.bypass_tenant_v1('adopt verify')")
            return told or (), [int(answers.value(self._connection, query)) for query in queries]

    def sum(self, table: str, columns: list[str]) -> tuple[int, str]:
        """How many rows there are, and a checksum, whatever their order: by ranges of pages. While the app writes, a
        row that moves from one range to another is counted twice, or not at all."""
        summed = add_up(table, columns)
        pages, number, checksum = int(answers.value(self._connection, _SIZE, [table, table])), 0, 0
        for first in range(0, max(pages, 1), PAGES):
            last = first + PAGES
            ends = [f"t.ctid >= '({first},0)'::tid"] if first else []
            ends += [f"t.ctid < '({last},0)'::tid"] if last < pages else []  # the end is where it is by then
            found = self._read(f"{summed} where {' and '.join(ends)}" if ends else summed, in_range=bool(ends)) or (
                0,
                0,
            )
            number, checksum = number + int(found[0]), checksum + int(found[1])
            self._told(table, min(last, pages), pages)
        return number, str(checksum)

    def _read(self, query: str, *, in_range: bool = False) -> tuple[Any, ...] | None:
        with self._connection.transaction():
            if self.across:
                self._connection.execute("select tenantry.bypass_tenant_v1('adopt verify')")
            self._connection.execute(SETTINGS)
            if in_range:
                self._connection.execute("set local enable_seqscan = off")  # of a range no more than that is read
            return self._connection.execute(query.encode()).fetchone()


_OPENED = """
select coalesce(bool_and(has_table_privilege('tenantry_bypass', name, 'select')
  and has_schema_privilege('tenantry_bypass', c.relnamespace, 'usage')), false)
from unnest(%s::text[]) as name join pg_class as c on c.oid = name::regclass"""
