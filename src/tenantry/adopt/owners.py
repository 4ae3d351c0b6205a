"""Where the rows of a user, or of one of the app's own organizations, go: what the move has to remember for that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tenantry.adopt import ddl
from tenantry.adopt.catalog import SCHEMA, Schema, Table
from tenantry.adopt.names import literal, quote, shorten
from tenantry.adopt.plan import Decision, Plan, Source, value_of
from tenantry.adopt.step import LEAF, PAGES, Known, Step

_CHUNK = 1_000


def make_place(known: Known) -> Step:
    given = f"{SCHEMA}.given"
    sql = [
        f"create schema if not exists {SCHEMA}",
        f"create table if not exists {given} (kind text, key text, clerk_id text not null, primary key (kind, key))",
    ]
    for start in range(0, len(known.given), _CHUNK):
        lines = known.given[start : start + _CHUNK]
        values = ", ".join(f"({', '.join(map(literal, line))})" for line in lines)
        sql.append(f"insert into {given} values {values} on conflict do nothing")
    undo = (f"drop table if exists {given}",)
    return Step("expand", "make room for what the move needs to know", "", "together", tuple(sql), undo)


def mapping(kind: str) -> str:
    return f"{SCHEMA}.tenants_of_{kind}"


def place(plan: Plan, source: Source, kind: str, row: str) -> str:
    """The tenant of a user, or of one of the app's organizations, of which `row` is the row."""
    key = f"{row}.{source.key}"
    clerk_id = f"{row}.{source.clerk_id}" if source.clerk_id else _look_up(kind, f"{key}::text")
    if kind == "users" and plan.rows.to == "organization":
        return "null::uuid"
    if kind == "users" and plan.rows.to == "column":
        clerk_id = _look_up("values", value_of(plan.rows, row))
    elif kind == "users" and plan.rows.to == "csv":
        clerk_id = _look_up("owners", f"{key}::text")
    return f"tenantry.adopt_tenant_v1({clerk_id})"


def _look_up(kind: str, key: str) -> str:
    return f"(select g.clerk_id from {SCHEMA}.given as g where g.kind = {literal(kind)} and g.key = {key})"


def make_mapping(plan: Plan, schema: Schema, source: Source, kind: str) -> Step:
    """Whose rows go where; new users and organizations are added as they come."""
    kept = mapping(kind)
    if not source.table:
        made = f"create table if not exists {kept} (key text primary key, tenant_id uuid not null)"
        return Step(
            "expand", f"remember the tenants of {kind}", "", "together", (made,), (f"drop table if exists {kept}",)
        )
    column = schema.tables[source.table].column(source.key)
    type_ = column.type if column else "text"
    function = f"{SCHEMA}.{quote(shorten('place', kind))}"
    body = f"""begin
  insert into {kept} (key, tenant_id)
  select new.{source.key}, placed.tenant_id from (select {place(plan, source, kind, "new")}) as placed(tenant_id)
  where placed.tenant_id is not null
  on conflict do nothing;
  return null;
exception when others then
  raise warning 'tenantry adopt: %', sqlerrm;  -- the app goes on; the row's owner is looked for again later
  return null;
end"""
    by_column = kind == "users" and plan.rows.to == "column"
    watched = plan.rows.column if by_column else source.clerk_id
    or_update = f" or update of {watched}" if watched and (by_column or plan.rows.to != "csv") else ""
    sql = (
        f"create table if not exists {kept} (key {type_} primary key, tenant_id uuid not null)",
        ddl.function(function, body),
        f"create or replace trigger zz_tenantry_adopt_place after insert{or_update} on {source.table}\n"
        f"  for each row execute function {function}()",
    )
    undo = (
        f"drop trigger if exists zz_tenantry_adopt_place on {source.table}",
        f"drop function if exists {function}()",
        f"drop table if exists {kept}",
    )
    name = f"remember the tenants of {source.table}"
    return Step(
        "expand", name, source.table, "together", sql, undo, "SHARE ROW EXCLUSIVE", schema.tables[source.table].leaves
    )


def fill_mapping(plan: Plan, schema: Schema, source: Source, kind: str, naming: Iterable[Decision]) -> Iterator[Step]:
    """Whose tenants are whose so far. `naming` are the tables that name owners; without a table of owners they are all
    that is known of them."""
    kept = mapping(kind)
    if source.table:
        table, key = schema.tables[source.table], source.key
        yield _fill(table, kind, key, place(plan, source, kind, "t"), f"{LEAF} as t\n  where {PAGES}")
    for decision in () if source.table else naming:
        key = decision.column[0]
        rows = f"(select distinct t.{key} from {LEAF} as t where {PAGES}) as t\n  where t.{key} is not null"
        yield _fill(schema.tables[decision.table], kind, key, f"tenantry.adopt_tenant_v1(t.{key})", rows)
    yield Step("backfill", f"analyze {kept}", "", "alone", (f"analyze {kept}",))


def _fill(table: Table, kind: str, key: str, tenant: str, rows: str) -> Step:
    kept = mapping(kind)
    sql = f"""insert into {kept} (key, tenant_id)
select placed.key, placed.tenant_id from (
  select t.{key} as key, {tenant} as tenant_id from {rows}
    and not exists (select from {kept} as known where known.key = t.{key})) as placed
where placed.tenant_id is not null
on conflict do nothing"""
    return Step(
        "backfill",
        f"find the tenants that {key} of {table.name} names",
        table.name,
        "batches",
        (sql,),
        (f"truncate {kept}",),
        "ROW EXCLUSIVE",
        rows=table.rows,
        leaves=table.leaves,
    )


def remove_place(schema: Schema, sources: list[tuple[Source, str]]) -> list[Step]:
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
    drops = [f"drop table if exists {mapping(kind)}" for _, kind in sources]
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
