"""A plan as ordered steps, each with its SQL, the SQL that undoes it, and what it locks. Pure: nothing is run here.

Theory of operation.
- expand: each table gets a nullable column, which rewrites nothing, and triggers: a row that is written without a
  tenant gets the one its owner has; a row whose tenant changes takes along those that follow it. An app that knows
  nothing of tenants goes on as before; where nobody can be found the column stays null.
- backfill: the rows of before, by ranges of the table's pages, parents first.
- constrain: the tenant's foreign key, indexes led by the tenant, and composite foreign keys along the way that rows
  got their tenant; then what an app of tenants needs in order to run. None of it can fail an app that knows of none.
- isolate: what can, once the app sets a tenant: NOT NULL, the other composite keys, row level security.
- contract: the triggers go, and so do the keys and indexes that have a successor, whose names the successors take.

Everything but contract is undone exactly. A statement that may be run again does then what is left to do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tenantry.adopt.catalog import SCHEMA, Grant, Index, Reference, Schema, Table, View
from tenantry.adopt.names import listing, literal, plain, quote, shorten, split
from tenantry.adopt.plan import Decision, Plan, Source, TenantColumn, parent_of, sort, tenant_column

Phase = Literal["expand", "backfill", "constrain", "isolate", "contract"]
PHASES: tuple[Phase, ...] = ("expand", "backfill", "constrain", "isolate", "contract")

LEAF, FIRST, LAST = "{leaf}", "{first}", "{last}"  # in the SQL of a batch: the table, and the pages from and to
_PAGES = f"t.ctid >= '({FIRST},0)'::tid and t.ctid < '({LAST},0)'::tid"
_CHUNK = 1_000
_RIGHTS = {"write": "select, insert, update, delete", "read": "select", "none": ""}


@dataclass(frozen=True, slots=True)
class Step:
    """`how`: together   all statements in one transaction, which waits for its locks only a moment at a time
               alone      outside a transaction: `index` is what a broken attempt leaves behind, to be dropped first
               batches    once for each range of pages of the `leaves`, a transaction each
               check      a query whose count must be 0, else `problem` says why

    `lock` is the strongest lock, `guards` are the tables whose vacuum is kept off meanwhile, `rows` an estimate of what
    it reads or writes.
    """

    phase: Phase
    name: str
    table: str
    how: Literal["together", "alone", "batches", "check"]
    sql: tuple[str, ...]
    undo: tuple[str, ...] = ()
    lock: str = ""
    guards: tuple[str, ...] = ()
    rows: int = 0
    leaves: tuple[str, ...] = ()
    index: str = ""
    undo_alone: bool = False
    problem: str = ""
    quiet: bool = False  # the app's own triggers do not run

    @property
    def seconds(self) -> float:
        """About how long it takes, on a small machine."""
        return self.rows / {"batches": 50_000, "alone": 500_000, "check": 1_000_000}.get(self.how, 2_000_000)


@dataclass(frozen=True, slots=True)
class Known:
    """What a plan names and the steps write out: our ids by Clerk's, and lists to load: kind, key, Clerk's id."""

    tenants: Mapping[str, str] = field(default_factory=dict)
    given: tuple[tuple[str, str, str], ...] = ()


def build(plan: Plan, schema: Schema, known: Known) -> tuple[Step, ...]:
    """All steps of a plan that `plan.check` found nothing wrong with."""
    moves = [_Move(plan, schema, known, decision) for decision in sort(plan, schema)]
    shares = [decision for decision in plan.decisions if decision.tenant == "shared"]
    sources = _sources(plan, schema, moves)
    steps = [_make_place(known)]
    for source, kind in sources:
        steps.append(_make_mapping(plan, schema, source, kind))
    for move in moves:
        steps += move.expand()
    for source, kind in sources:
        steps += _fill_mapping(plan, schema, source, kind, moves)
        mapping = _mapping(kind)
        steps.append(Step("backfill", f"analyze {mapping}", "", "alone", (f"analyze {mapping}",)))
    for move in moves:
        steps += move.backfill()
    for move in moves:
        steps += move.constrain()
    steps += [Step("constrain", f"analyze {move.table.name}", move.table.name, "alone", (f"analyze {move.table.name}",))
              for move in moves]  # fmt: skip
    steps += _open(schema, moves, shares)
    for move in moves:
        steps += move.require()
    steps += [move.isolate() for move in moves]
    steps += [_share(schema, decision) for decision in shares]
    for contract in (_Move.clear, _Move.replace_references, _Move.replace_indexes):
        for move in moves:
            steps += contract(move)
    return (*steps, *_remove_place(plan, schema, sources))


def kept(plan: Plan, schema: Schema) -> set[tuple[str, str]]:
    """(code of check_v1, table) of what stays across tenants, because the plan says so or it cannot be otherwise."""
    found = set()
    for decision in plan.owned:
        move = _Move(plan, schema, Known(), decision)
        found |= {("TC10", decision.table) for index in move.table.indexes if move.stays_across(index)}
        found |= {("TC11", decision.table) for r in move.table.references if r.name in decision.keep or move.is_odd(r)}
        found |= {("TC12", decision.table)}  # a matter of speed: the app's own indexes are left as they are
        found |= {("TC25", decision.table)}
    return found | {("TC09", decision.table) for decision in plan.decisions if decision.tenant == "shared"}


def references_between(plan: Plan, schema: Schema) -> Iterator[tuple[str, TenantColumn, Reference, TenantColumn]]:
    """Every foreign key between tables that get a tenant: table, its tenant's column, the key, the target's column."""
    for decision in plan.owned:
        for reference in schema.tables[decision.table].references:
            target = plan.of(reference.target)
            if target is not None and target in plan.owned:
                yield (
                    decision.table,
                    tenant_column(plan, schema, decision),
                    reference,
                    tenant_column(plan, schema, target),
                )


# --- where the move keeps what it needs -------------------------------------------------------------------------------


def _make_place(known: Known) -> Step:
    given = f"{SCHEMA}.given"
    sql = [f"create table if not exists {given} (kind text, key text, clerk_id text not null, primary key (kind, key))"]
    for start in range(0, len(known.given), _CHUNK):
        lines = known.given[start : start + _CHUNK]
        values = ", ".join(f"({', '.join(map(literal, line))})" for line in lines)
        sql.append(f"insert into {given} values {values} on conflict do nothing")
    undo = (f"drop table if exists {given}",)
    return Step("expand", "make room for what the move needs to know", "", "together", tuple(sql), undo)


def _sources(plan: Plan, schema: Schema, moves: Iterable[_Move]) -> list[tuple[Source, str]]:
    used = [move.source for move in moves if move.decision.tenant == "owner"]
    known = [(plan.users, "users"), (plan.organizations, "organizations")]
    return [(source, kind) for source, kind in known if source is not None and source in used]


def _mapping(kind: str) -> str:
    return f"{SCHEMA}.tenants_of_{kind}"


def _place(plan: Plan, source: Source, kind: str, row: str) -> str:
    """The tenant of a user, or of one of the app's organizations, of which `row` is the row."""
    key = f"{row}.{source.key}"
    clerk_id = f"{row}.{source.clerk_id}" if source.clerk_id else _look_up(kind, f"{key}::text")
    if kind == "users" and plan.rows.to == "organization":
        return "null::uuid"
    if kind == "users" and plan.rows.to == "column":
        value = f"{row}.{plan.rows.column}::text"
        if plan.rows.by == "domain":
            value = f"lower(split_part({value}, '@', 2))"
        clerk_id = _look_up("values", value)
    elif kind == "users" and plan.rows.to == "csv":
        clerk_id = _look_up("owners", f"{key}::text")
    return f"tenantry.adopt_tenant_v1({clerk_id})"


def _look_up(kind: str, key: str) -> str:
    return f"(select g.clerk_id from {SCHEMA}.given as g where g.kind = {literal(kind)} and g.key = {key})"


def _make_mapping(plan: Plan, schema: Schema, source: Source, kind: str) -> Step:
    """Whose rows go where; new users and organizations are added as they come."""
    mapping = _mapping(kind)
    if not source.table:
        made = f"create table if not exists {mapping} (key text primary key, tenant_id uuid not null)"
        return Step(
            "expand", f"remember the tenants of {kind}", "", "together", (made,), (f"drop table if exists {mapping}",)
        )
    column = schema.tables[source.table].column(source.key)
    type_ = column.type if column else "text"
    function = f"{SCHEMA}.{quote(shorten('place', kind))}"
    body = f"""begin
  insert into {mapping} (key, tenant_id)
  select new.{source.key}, placed.tenant_id from (select {_place(plan, source, kind, "new")}) as placed(tenant_id)
  where placed.tenant_id is not null
  on conflict do nothing;
  return null;
exception when others then
  raise warning 'tenantry adopt: %', sqlerrm;  -- the app goes on; the row's owner is looked for again later
  return null;
end"""
    watched = [c for c in (source.clerk_id, plan.rows.column if kind == "users" else "") if c]
    of = f" of {listing(watched)}" if watched else ""
    sql = (
        f"create table if not exists {mapping} (key {type_} primary key, tenant_id uuid not null)",
        _function(function, body),
        f"create or replace trigger zz_tenantry_adopt_place after insert or update{of} on {source.table}\n"
        f"  for each row execute function {function}()",
    )
    undo = (
        f"drop trigger if exists zz_tenantry_adopt_place on {source.table}",
        f"drop function if exists {function}()",
        f"drop table if exists {mapping}",
    )
    name = f"remember the tenants of {source.table}"
    return Step(
        "expand", name, source.table, "together", sql, undo, "SHARE ROW EXCLUSIVE", schema.tables[source.table].leaves
    )


def _fill_mapping(plan: Plan, schema: Schema, source: Source, kind: str, moves: list[_Move]) -> list[Step]:
    if source.table:
        table, key = schema.tables[source.table], source.key
        return [_fill(table, kind, key, _place(plan, source, kind, "t"), f"{LEAF} as t\n  where {_PAGES}")]
    steps = []
    for move in moves:
        if move.decision.tenant == "owner" and move.source == source:
            key = move.decision.column[0]
            rows = f"(select distinct t.{key} from {LEAF} as t where {_PAGES}) as t\n  where t.{key} is not null"
            steps.append(_fill(move.table, kind, key, f"tenantry.adopt_tenant_v1(t.{key})", rows))
    return steps


def _fill(table: Table, kind: str, key: str, tenant: str, rows: str) -> Step:
    mapping = _mapping(kind)
    sql = f"""insert into {mapping} (key, tenant_id)
select placed.key, placed.tenant_id from (
  select t.{key} as key, {tenant} as tenant_id from {rows}
    and not exists (select from {mapping} as known where known.key = t.{key})) as placed
where placed.tenant_id is not null
on conflict do nothing"""
    return Step(
        "backfill",
        f"find the tenants that {key} of {table.name} names",
        table.name,
        "batches",
        (sql,),
        (f"truncate {mapping}",),
        "ROW EXCLUSIVE",
        rows=table.rows,
        leaves=table.leaves,
    )


def _remove_place(plan: Plan, schema: Schema, sources: list[tuple[Source, str]]) -> list[Step]:
    steps = []
    for source, _ in sources:
        if source.table:
            sql = (f"drop trigger if exists zz_tenantry_adopt_place on {source.table}",)
            steps.append(
                Step(
                    "contract",
                    f"stop remembering the tenants of {source.table}",
                    source.table,
                    "together",
                    sql,
                    lock="ACCESS EXCLUSIVE",
                    guards=schema.tables[source.table].leaves,
                )
            )
    drops = [f"drop table if exists {_mapping(kind)}" for _, kind in sources]
    drops += [f"drop function if exists {SCHEMA}.{quote(shorten('place', kind))}()" for s, kind in sources if s.table]
    steps.append(
        Step(
            "contract",
            "forget what the move needed to know",
            "",
            "together",
            (*drops, f"drop table if exists {SCHEMA}.given"),
        )
    )
    return steps


# --- one table --------------------------------------------------------------------------------------------------------


class _Move:
    """What becomes of one table."""

    def __init__(self, plan: Plan, schema: Schema, known: Known, decision: Decision) -> None:
        self.plan = plan
        self.schema = schema
        self.known = known
        self.decision = decision
        self.table = schema.tables[decision.table]
        self.column = tenant_column(plan, schema, decision)
        self.source = plan.source(schema, decision)
        self.leaves = self.table.leaves
        self._name = split(self.table.name)
        self._derive = f"{SCHEMA}.{quote(shorten('derive', *self._name))}"
        self._follow = f"{SCHEMA}.{quote(shorten('follow', *self._name))}"

    # expand

    def expand(self) -> Iterator[Step]:
        if not self.column.is_new:
            return
        table, column = self.table.name, self.column.name
        default = ""
        if self.decision.tenant == "organization":  # a default of the kind that rewrites nothing fills all rows at once
            default = f" default {self._constant()}"
        sql = [f"alter table {table} add column if not exists {column} {self.column.type}{default}"]
        undo = [f"alter table {table} drop column if exists {column}"]
        if self.decision.tenant != "organization":
            sql += self._make_trigger()
            undo = [*self._drop_trigger(), *undo]
        yield Step(
            "expand",
            f"give {table} its {column}",
            table,
            "together",
            tuple(sql),
            tuple(undo),
            "ACCESS EXCLUSIVE",
            self.leaves,
        )
        if followers := list(self._followers()):
            yield self._follow_step(followers)

    def _constant(self) -> str:
        return self._tenant(self.plan.rows.organization)

    def _tenant(self, org_id: str) -> str:
        if self.column.key == "clerk_org_id":
            return literal(org_id)
        return literal(self.known.tenants.get(org_id, "")) + "::uuid"

    def _current(self) -> str:
        """The tenant of the transaction, for an app that sets one already; else null."""
        setting = "tenantry.tenant_id" if self.column.key == "id" else "tenantry.org_id"
        return f"nullif(pg_catalog.current_setting('{setting}', true), '')::{self.column.type}"

    def _derived(self, row: str) -> str:
        """The tenant that a row's owner has."""
        if self.decision.tenant == "reference":
            reference, parent = self._parent()
            on = " and ".join(
                f"p.{theirs} = {row}.{ours}"
                for ours, theirs in zip(reference.columns, reference.target_columns, strict=True)
            )
            # The lock is the one that the foreign key takes anyway: meanwhile the row goes to no other tenant.
            return f"(select p.{parent.column.name} from {reference.target} as p where {on} for key share)"
        source, kind = self._owner()
        owner = self.decision.column[0]
        if source.table == self.table.name:
            return _place(self.plan, source, kind, row)
        found = f"(select m.tenant_id from {_mapping(kind)} as m where m.key = {row}.{owner})"
        return found if source.table else f"coalesce({found}, tenantry.adopt_tenant_v1({row}.{owner}))"

    def _parent(self) -> tuple[Reference, _Move]:
        reference = self.table.reference(self.decision.column)
        parent = self.plan.of(parent_of(self.schema, self.decision) or "")
        if reference is None or parent is None:
            raise ValueError(f"{self.table.name} has no parent by {self.decision.column}")
        return reference, _Move(self.plan, self.schema, self.known, parent)

    def _owner(self) -> tuple[Source, str]:
        if self.source is None:
            raise ValueError(f"{self.table.name} has no owner")
        return self.source, "organizations" if self.source is self.plan.organizations else "users"

    def _make_trigger(self) -> list[str]:
        column, table = self.column.name, self.table.name
        candidates = [self._current(), self._derived("new")]
        if self.plan.rows.rest:
            candidates.append(self._tenant(self.plan.rows.rest))
        body = (
            f"begin\n  new.{column} := coalesce(\n    {(',' + chr(10) + '    ').join(candidates)});\n  return new;\nend"
        )
        changed = " or ".join(f"old.{c} is distinct from new.{c}" for c in self.decision.column)
        run = f"execute function {self._derive}()"
        return [
            _function(self._derive, body),
            f"create or replace trigger zz_tenantry_adopt_insert before insert on {table}\n"
            f"  for each row when (new.{column} is null) {run}",
            f"create or replace trigger zz_tenantry_adopt_update before update on {table}\n"
            f"  for each row when (new.{column} is null or {changed}) {run}",
        ]

    def _drop_trigger(self) -> list[str]:
        return [
            f"drop trigger if exists zz_tenantry_adopt_insert on {self.table.name}",
            f"drop trigger if exists zz_tenantry_adopt_update on {self.table.name}",
            f"drop function if exists {self._derive}()",
        ]

    def _followers(self) -> Iterator[tuple[_Move, Reference]]:
        """The tables that get their tenant from this one."""
        for decision in self.plan.owned:
            if parent_of(self.schema, decision) == self.table.name:
                move = _Move(self.plan, self.schema, self.known, decision)
                yield move, move._parent()[0]

    def _follow_step(self, followers: list[tuple[_Move, Reference]]) -> Step:
        """Its trigger runs before those of foreign keys, which go by name, so that they find the rows moved."""
        column, table = self.column.name, self.table.name
        updates = []
        for move, reference in followers:
            pairs = zip(reference.columns, reference.target_columns, strict=True)
            on = " and ".join(f"t.{ours} = new.{theirs}" for ours, theirs in pairs)
            updates.append(
                f"  update {move.table.name} as t set {move.column.name} = new.{column}\n"
                f"  where {on} and t.{move.column.name} is distinct from new.{column};"
            )
        body = "begin\n" + "\n".join(updates) + "\n  return null;\nend"
        sql = (
            _function(self._follow, body),
            f'create or replace trigger "A_tenantry_adopt_follow" after update on {table}\n'
            f"  for each row when (old.{column} is not null and old.{column} is distinct from new.{column})\n"
            f"  execute function {self._follow}()",
        )
        return Step(
            "expand",
            f"have rows follow those of {table}",
            table,
            "together",
            sql,
            tuple(self._drop_follow()),
            "SHARE ROW EXCLUSIVE",
            self.leaves,
        )

    def _drop_follow(self) -> list[str]:
        return [
            f'drop trigger if exists "A_tenantry_adopt_follow" on {self.table.name}',
            f"drop function if exists {self._follow}()",
        ]

    # backfill

    def backfill(self) -> Iterator[Step]:
        if not self.column.is_new or self.decision.tenant == "organization":
            return
        yield self._batches("backfill", f"fill {self.column.name} of {self.table.name}", *self._matching())
        if self.plan.rows.rest:
            rest = f"{self.column.name} = {self._tenant(self.plan.rows.rest)}"
            yield self._batches("backfill", f"give the rest of {self.table.name} a tenant", rest, "", "")

    def _matching(self) -> tuple[str, str, str]:
        """SET, FROM and ON of an update that gives rows the tenant of their owner."""
        column = self.column.name
        if self.decision.tenant == "reference":
            reference, parent = self._parent()
            pairs = zip(reference.columns, reference.target_columns, strict=True)
            on = " and ".join(f"p.{theirs} = t.{ours}" for ours, theirs in pairs)
            found = f"p.{parent.column.name}"
            return f"{column} = {found}", f"\nfrom {reference.target} as p", f" and {on} and {found} is not null"
        _, kind = self._owner()
        on = f" and m.key = t.{self.decision.column[0]}"
        return f"{column} = m.tenant_id", f"\nfrom {_mapping(kind)} as m", on

    def _batches(self, phase: Phase, name: str, sets: str, source: str, on: str, *, only_null: bool = True) -> Step:
        column = self.column.name
        found = sets.partition(" = ")[2]
        where = f"t.{column} is null" if only_null else f"t.{column} is distinct from {found}"
        sql = f"update {LEAF} as t set {sets}{source}\nwhere {_PAGES} and {where}{on}"
        return Step(
            phase,
            name,
            self.table.name,
            "batches",
            (sql,),
            lock="ROW EXCLUSIVE",
            rows=self.table.rows,
            leaves=self.leaves,
            quiet=bool(self.table.triggers) and not self.decision.triggers,
        )

    # constrain

    def constrain(self) -> Iterator[Step]:
        if self.column.key == "id":
            name = shorten(self._name[1], self.column.name, "fkey")
            yield from self._add_reference(
                "constrain", name, f"({self.column.name})", "tenantry.tenants", "(id)", "", ()
            )
        for index in self._new_indexes():
            yield from self._make_index(index)
        for reference, own in self._composites():
            if own:
                yield from self._compose(reference, own=True)

    def _new_indexes(self) -> list[Index]:
        """The successors of indexes, and what composite foreign keys need; one at least begins with the tenant."""
        made = [self._successor(index) for index in self.table.indexes if self.succeeds(index)]
        for columns in self._asked_for():
            wanted = {self.column.name, *columns}
            if not any(i.unique and not i.predicate and set(i.columns) == wanted for i in (*made, *self.table.indexes)):
                made.append(self._index((self.column.name, *columns), "key", unique=True))
        there = [*made, *(i for i in self.table.indexes if i.valid)]
        if not any(i.columns[:1] == (self.column.name,) and not i.predicate for i in there):
            made.append(self._index((self.column.name,), "idx"))
        return made

    def _index(self, columns: tuple[str, ...], suffix: str, *, unique: bool = False) -> Index:
        return Index(quote(shorten(self._name[1], *columns, suffix)), columns, unique=unique)

    def _successor(self, index: Index) -> Index:
        name = quote(shorten(index.name, "of", "tenant"))
        return replace(index, name=name, columns=(self.column.name, *index.columns), primary=False, constraint="")

    def succeeds(self, index: Index) -> bool:
        """Whether an index gets a successor that begins with the tenant."""
        if not index.plain or not index.valid or self.column.name in index.columns or self._keeps(index):
            return False
        if index.unique:
            return not (index.generated or (index.primary and self.table.partitioned) or self._is_referred_to(index))
        return not any(
            index.columns[: len(r.columns)] == r.columns and not self._is_composed(r) for r in self.table.references
        )

    def stays_across(self, index: Index) -> bool:
        """Whether a key stays unique across tenants."""
        return (
            index.unique and not index.generated and self.column.name not in index.columns and not self.succeeds(index)
        )

    def _is_referred_to(self, index: Index) -> bool:
        """Whether a foreign key that stays as it is needs the key."""
        for table in self.schema.tables.values():
            for reference in table.references:
                if reference.target == self.table.name and set(reference.target_columns) == set(index.columns):
                    decision = self.plan.of(table.name)
                    if decision is None or decision not in self.plan.owned:
                        return True
                    if not _Move(self.plan, self.schema, self.known, decision)._is_composed(reference):
                        return True
        return False

    def _keeps(self, index: Index) -> bool:
        return bool({index.name, index.constraint} & set(self.decision.keep))

    def _asked_for(self) -> list[tuple[str, ...]]:
        """The columns that composite foreign keys of other tables, and its own, refer to here."""
        asked = []
        for decision in self.plan.owned:
            move = self if decision is self.decision else _Move(self.plan, self.schema, self.known, decision)
            for reference, _ in move._composites():
                if reference.target == self.table.name and reference.target_columns not in asked:
                    asked.append(reference.target_columns)
        return asked

    def _make_index(self, index: Index) -> Iterator[Step]:
        schema = self._name[0]
        if not self.table.partitioned:
            yield self._build(self.table.name, index, f"{schema}.{index.name}")
            return
        whole = f"{schema}.{index.name}"
        sql = (_index_sql(f"only {self.table.name}", index, "if not exists "),)
        undo = (f"drop index if exists {whole}",)
        yield Step("constrain", f"begin index {whole}", self.table.name, "together", sql, undo, "SHARE", self.leaves)
        for leaf in self.leaves:
            of_leaf = quote(shorten(*split(leaf)[1:], *index.columns, "key" if index.unique else "idx"))
            named = f"{split(leaf)[0]}.{of_leaf}"
            yield self._build(leaf, replace(index, name=of_leaf), named)
            sql = (f"alter index {whole} attach partition {named}",)
            yield Step(
                "constrain", f"attach index {named}", self.table.name, "together", sql, (), "ACCESS EXCLUSIVE", (leaf,)
            )

    def _build(self, table: str, index: Index, named: str) -> Step:
        undo = f"drop index concurrently if exists {named}"
        if self.table.partitioned:  # attached, it goes with the whole
            alone = f"exists (select from pg_class where oid = to_regclass({literal(named)}) and not relispartition)"
            undo = f"do $$ begin if {alone} then drop index {named}; end if; end $$"
        return Step(
            "constrain",
            f"build index {named}",
            table,
            "alone",
            (_index_sql(table, index, "concurrently if not exists "),),
            (undo,),
            "SHARE UPDATE EXCLUSIVE",
            rows=self.table.rows,
            index=named,
            undo_alone=not self.table.partitioned,
        )

    def _composites(self) -> Iterator[tuple[Reference, bool]]:
        """The foreign keys that get a successor with the tenant, and whether the rows got their tenant along it."""
        for reference in self.table.references:
            if self._is_composed(reference):
                own = self.decision.tenant == "reference" and self.decision.column == reference.columns
                yield reference, own

    def _is_composed(self, reference: Reference) -> bool:
        target = self.plan.of(reference.target)
        if target is None or target not in self.plan.owned or reference.name in self.decision.keep:
            return False
        there = tenant_column(self.plan, self.schema, target)
        carries = (self.column.name, there.name) in zip(reference.columns, reference.target_columns, strict=True)
        return there.key == self.column.key and not carries and not self.is_odd(reference)

    def is_odd(self, reference: Reference) -> bool:
        """Whether a foreign key means something that it could not mean with the tenant in it."""
        return reference.full or reference.on_update.startswith("set")

    def _compose(self, reference: Reference, *, own: bool) -> Iterator[Step]:
        target = self.plan.of(reference.target)
        there = tenant_column(self.plan, self.schema, target) if target else self.column
        phase: Phase = "constrain" if own else "isolate"
        name = self._composite_name(reference)
        ours = f"({listing((self.column.name, *reference.columns))})"
        theirs = f"({listing((there.name, *reference.target_columns))})"
        settle = None
        if own:
            sets, source, on = self._matching()
            settle = self._batches(phase, f"settle {self.table.name}", sets, source, on, only_null=False)
        else:
            yield self._crossing(reference, there)
        guards = self.schema.tables[reference.target].leaves
        yield from self._add_reference(phase, name, ours, reference.target, theirs, _actions(reference), guards, settle)

    def _composite_name(self, reference: Reference) -> str:
        return shorten(reference.name, "of", "tenant")

    def _crossing(self, reference: Reference, there: TenantColumn) -> Step:
        pairs = zip(reference.columns, reference.target_columns, strict=True)
        on = " and ".join(f"p.{theirs} = t.{ours}" for ours, theirs in pairs)
        query = (
            f"select count(*) from {self.table.name} as t join {reference.target} as p on {on}\n"
            f"where t.{self.column.name} <> p.{there.name}"
        )
        problem = (
            f"{{count}} rows of {self.table.name} refer to another tenant's row of {reference.target}. Mend them, or "
            f"let the key cross tenants: undo, and write keep = {json.dumps([reference.name])} in adopt.toml."
        )
        name = f"see that {reference.name} of {self.table.name} stays within tenants"
        return Step("isolate", name, self.table.name, "check", (query,), problem=problem, rows=self.table.rows)

    def _add_reference(
        self,
        phase: Phase,
        name: str,
        ours: str,
        target: str,
        theirs: str,
        actions: str,
        guards: tuple[str, ...],
        settle: Step | None = None,
    ) -> Iterator[Step]:
        """A foreign key that is validated after it was added; of a partitioned table, by partition, and then joined."""
        clause = f"foreign key {ours} references {target} {theirs}{actions}"
        name = quote(name)
        for leaf in self.leaves:
            yield Step(
                phase,
                f"add {name} to {leaf}",
                leaf,
                "together",
                (_unless_there(leaf, name, f"alter table {leaf} add constraint {name} {clause} not valid"),),
                # Once a partition's has joined its parent's, it goes with that.
                (_if_there(leaf, name, f"alter table {leaf} drop constraint {name}"),),
                "SHARE ROW EXCLUSIVE",
                tuple(dict.fromkeys((leaf, *guards))),
            )
            if settle and leaf == self.leaves[0]:
                yield settle
            yield Step(
                phase,
                f"validate {name} of {leaf}",
                leaf,
                "together",
                (f"alter table {leaf} validate constraint {name}",),
                lock="SHARE UPDATE EXCLUSIVE",
                rows=self.table.rows,
            )
        if self.table.partitioned:
            table = self.table.name
            yield Step(
                phase,
                f"join {name} of {table}",
                table,
                "together",
                (_unless_there(table, name, f"alter table {table} add constraint {name} {clause}"),),
                (f"alter table {table} drop constraint if exists {name}",),
                "SHARE ROW EXCLUSIVE",
                (*self.leaves, *guards),
            )

    # isolate

    def require(self) -> Iterator[Step]:
        """What an app that sets no tenant could fail at."""
        table, column = self.table.name, self.column.name
        for reference, own in self._composites():
            if not own:
                yield from self._compose(reference, own=False)
        found = self.table.column(column)
        if found and found.not_null:
            return
        if self.column.is_new and self.decision.tenant != "organization":
            sets, source, on = self._matching()
            sql = (f"update {table} as t set {sets}{source}\nwhere t.{column} is null{on}",)
            yield Step("isolate", f"fill what is left of {table}", table, "together", sql, lock="ROW EXCLUSIVE",
                       quiet=bool(self.table.triggers) and not self.decision.triggers)  # fmt: skip
        yield Step(
            "isolate",
            f"see that every row of {table} has a tenant",
            table,
            "check",
            (f"select count(*) from {table} where {column} is null",),
            problem=f"{{count}} rows of {table} have no tenant: nobody was found to own them. Give them an owner, "
            'or undo and name in adopt.toml who gets them: rest = "org_..." in [rows].',
            rows=self.table.rows,
        )
        name = self._not_null_name()
        add = f"alter table {table} add constraint {name} check ({column} is not null) not valid"
        drop = self._drop_not_null_check()
        yield Step(
            "isolate",
            f"require {column} of {table}",
            table,
            "together",
            (_unless_there(table, name, add),),
            (drop,),
            "ACCESS EXCLUSIVE",
            self.leaves,
        )
        yield Step(
            "isolate",
            f"validate {name}",
            table,
            "together",
            (_if_there(table, name, f"alter table {table} validate constraint {name}"),),
            lock="SHARE UPDATE EXCLUSIVE",
            rows=self.table.rows,
        )
        yield Step(
            "isolate",
            f"set {column} of {table} not null",
            table,
            "together",
            (f"alter table {table} alter column {column} set not null",),  # what is proven is not scanned for
            (f"alter table {table} alter column {column} drop not null",),
            "ACCESS EXCLUSIVE",
            self.leaves,
        )

    def _not_null_name(self) -> str:
        return quote(shorten(self._name[1], self.column.name, "is", "there"))

    def _drop_not_null_check(self) -> str:
        return f"alter table {self.table.name} drop constraint if exists {self._not_null_name()}"

    def isolate(self) -> Step:
        table = self.table.name
        told = {} if self.column.key == "id" else {"column": plain(self.column.name), "key": self.column.key}
        told["check"] = "later"
        sql = (f"select tenantry.isolate_table_v1({literal(table)}, {literal(json.dumps(told))})",)
        undo = [
            "do $$ begin if exists (select from tenantry.table_isolation\n"
            f"  where relation = {literal(table)}::regclass and mode = 'isolated') then\n"
            f"  perform tenantry.drop_isolation_v1({literal(table)}); end if; end $$",
            *self._restore_default(),
            *_restore(self.table),
            *_opened(self.table, "write"),
        ]
        for view in self.schema.views:
            if table in view.reads and not view.invoker and view.owner == self.table.owner:
                undo.append(f"alter view {view.name} reset (security_invoker)")
        return Step("isolate", f"isolate {table}", table, "together", sql, tuple(undo), "ACCESS EXCLUSIVE", self.leaves)

    def _restore_default(self) -> list[str]:
        if self.decision.tenant != "organization":
            return []
        return [self._default_of_both()]

    def _default_of_both(self) -> str:
        """The organization whose all rows are, unless the app sets a tenant already."""
        default = f"coalesce({self._current()}, {self._constant()})"
        return f"alter table {self.table.name} alter column {self.column.name} set default {default}"

    def open_default(self) -> tuple[list[str], list[str]]:
        if self.decision.tenant != "organization":
            return [], []
        back = f"alter table {self.table.name} alter column {self.column.name} set default {self._constant()}"
        return [self._default_of_both()], [back]

    # contract

    def clear(self) -> Iterator[Step]:
        """The triggers go, and the check that NOT NULL has taken over."""
        drops = self._drop_trigger() if self.column.is_new and self.decision.tenant != "organization" else []
        if self.column.is_new and any(self._followers()):
            drops += self._drop_follow()
        yield self._contract(f"clear {self.table.name} of the move", [*drops, self._drop_not_null_check()])

    def replace_references(self) -> Iterator[Step]:
        table = self.table.name
        for reference, _ in self._composites():
            old, new = reference.name, quote(self._composite_name(reference))
            sql = f"alter table {table} drop constraint {old}; alter table {table} rename constraint {new} to {old}"
            guards = self.schema.tables[reference.target].leaves
            yield self._contract(f"let {old} of {table} carry the tenant", [_if_there(table, new, sql)], guards)

    def replace_indexes(self) -> Iterator[Step]:
        for index in self.table.indexes:
            if self.succeeds(index):
                yield self._replace(index)

    def _contract(self, name: str, sql: Iterable[str], guards: tuple[str, ...] = ()) -> Step:
        locked = tuple(dict.fromkeys((*self.leaves, *guards)))
        return Step("contract", name, self.table.name, "together", tuple(sql), (), "ACCESS EXCLUSIVE", locked)

    def _replace(self, index: Index) -> Step:
        """The old index goes, and its name to the new one; a key becomes a key again, where PostgreSQL can do that."""
        table, schema = self.table.name, self._name[0]
        new = f"{schema}.{self._successor(index).name}"
        if index.constraint and self.table.partitioned:
            sql = f"alter table {table} drop constraint {index.constraint}; alter index {new} rename to {index.name}"
        elif index.constraint:
            kind = "primary key" if index.primary else "unique"
            key = f"{kind} using index {self._successor(index).name}{' deferrable' if index.deferrable else ''}"
            sql = (
                f"alter table {table} drop constraint {index.constraint}; "
                f"alter table {table} add constraint {index.constraint} {key}"
            )
        else:
            sql = f"drop index {schema}.{index.name}; alter index {new} rename to {index.name}"
        done = f"if to_regclass({literal(new)}) is not null then {sql}; end if;"
        return self._contract(f"replace {index.constraint or index.name} of {table}", [f"do $$ begin {done} end $$"])


# --- who may ----------------------------------------------------------------------------------------------------------


def _open(schema: Schema, moves: list[_Move], shares: list[Decision]) -> list[Step]:
    """Lets an app that sets a tenant in each transaction run, before there is isolation."""
    steps = []
    tables = [(move.table, "write", move) for move in moves]
    named = [(schema.tables[decision.table], decision.mode, None) for decision in shares]
    spaces = sorted({split(table.name)[0] for table, *_ in [*tables, *named]})
    sql = [f"grant usage on schema {space} to tenantry_tenant, tenantry_bypass" for space in spaces]
    undo = [line for space in spaces for line in _give_back("schema", space, schema.namespaces.get(space, ()))]
    steps.append(Step("constrain", "let tenants into the schemas", "", "together", tuple(sql), tuple(undo)))
    for table, mode, move in [*tables, *named]:
        opened, back = move.open_default() if move else ([], [])
        undo = [*back, *_give_back("table", table.name, table.grants)]
        undo += [line for sequence, held in table.sequences for line in _give_back("sequence", sequence, held)]
        lock = "ACCESS EXCLUSIVE" if opened else ""
        steps.append(
            Step(
                "constrain",
                f"let tenants use {table.name}",
                table.name,
                "together",
                (*_opened(table, mode), *opened),
                tuple(undo),
                lock,
                table.leaves if opened else (),
            )
        )
    for view in _views(schema, [move.table for move in moves]):
        undo = _give_back("table", view.name, view.grants)
        sql = [f"grant select on {view.name} to tenantry_tenant, tenantry_bypass"]
        steps.append(Step("constrain", f"let tenants read {view.name}", view.name, "together", tuple(sql), tuple(undo)))
    return steps


def _views(schema: Schema, tables: Iterable[Table]) -> list[View]:
    owners = {table.name: table.owner for table in tables}
    return [view for view in schema.views if any(owners.get(name) == view.owner for name in view.reads)]


def _opened(table: Table, mode: str) -> list[str]:
    rights = _RIGHTS[mode]
    lines = [f"grant select on {table.name} to tenantry_bypass"]
    if rights:
        lines = [f"grant {rights} on {table.name} to tenantry_tenant, tenantry_bypass"]
    if mode == "write":
        lines += [
            f"grant usage on sequence {sequence} to tenantry_tenant, tenantry_bypass" for sequence, _ in table.sequences
        ]
    return lines


def _give_back(kind: str, name: str, before: Iterable[Grant]) -> list[str]:
    """Takes from tenants and the bypass what they were granted, but for what they had before."""
    lines = [f"revoke all on {kind} {name} from tenantry_tenant, tenantry_bypass"]
    return lines + _regrant(kind, name, [g for g in before if g.grantee in ("tenantry_tenant", "tenantry_bypass")])


def _restore(table: Table) -> list[str]:
    """Everybody's rights on a table and its sequences, as they were."""
    lines = []
    for name, held in ((table.name, table.grants), *table.parts):
        lines += [f"revoke all on table {name} from tenantry_tenant, tenantry_bypass", *_regrant("table", name, held)]
    for sequence, held in table.sequences:
        lines.append(f"revoke all on sequence {sequence} from tenantry_tenant, tenantry_bypass")
        lines += _regrant("sequence", sequence, held)
    return lines


def _regrant(kind: str, name: str, held: Iterable[Grant]) -> list[str]:
    rights: dict[tuple[str, bool], list[str]] = {}
    for grant in held:
        rights.setdefault((grant.grantee, grant.grantable), []).append(grant.privilege)
    return [
        f"grant {listing(privileges)} on {kind} {name} to {grantee}{' with grant option' if grantable else ''}"
        for (grantee, grantable), privileges in sorted(rights.items())
    ]


def _share(schema: Schema, decision: Decision) -> Step:
    table = schema.tables[decision.table]
    name = literal(table.name)
    undo = [f"select tenantry.register_isolation({name}, null)", *_restore(table), *_opened(table, decision.mode)]
    sql = (f"select tenantry.share_table_v1({name}, {literal(decision.mode)})",)
    return Step("isolate", f"share {table.name}", table.name, "together", sql, tuple(undo), "grants")


# --- pieces of SQL ----------------------------------------------------------------------------------------------------


def _function(name: str, body: str) -> str:
    """Definer: the app's logins may neither call nor read what the move keeps."""
    return (
        f"create or replace function {name}() returns trigger language plpgsql security definer\n"
        f"set search_path = pg_catalog, pg_temp as $$\n{body}\n$$"
    )


def _index_sql(table: str, index: Index, manner: str) -> str:
    include = f" include ({listing(index.include)})" if index.include else ""
    distinct = " nulls not distinct" if index.nulls_not_distinct else ""
    where = f" where {index.predicate}" if index.predicate else ""
    unique = "unique " if index.unique else ""
    return f"create {unique}index {manner}{index.name} on {table} ({listing(index.columns)}){include}{distinct}{where}"


def _actions(reference: Reference) -> str:
    """What a composite key does where the plain one did it; SET NULL and SET DEFAULT leave the tenant alone."""
    on_delete = reference.on_delete
    if on_delete in ("set null", "set default"):
        on_delete += f" ({listing(reference.columns)})"
    parts = [
        f"on delete {on_delete}" if on_delete else "",
        f"on update {reference.on_update}" if reference.on_update else "",
    ]
    return "".join(f" {part}" for part in [*parts, reference.deferrable] if part)


def _has_constraint(table: str, name: str) -> str:
    where = f"conrelid = {literal(table)}::regclass and conname = {literal(plain(name))}"
    return f"exists (select from pg_constraint where {where})"


def _unless_there(table: str, name: str, statement: str) -> str:
    return f"do $$ begin if not {_has_constraint(table, name)} then\n  {statement}; end if; end $$"


def _if_there(table: str, name: str, statement: str) -> str:
    return f"do $$ begin if {_has_constraint(table, name)} then\n  {statement}; end if; end $$"
