"""Where the rows of a user, or of one of the app's own organizations, go: what the move has to remember for that.

Theory of operation.
- `given` holds what the plan's names and files say; what is added to them while the move is under way is added there.
- A mapping holds the tenant of each owner. Triggers keep it: a new row gets its owner's tenant of that moment.
- Until isolation whose a user's rows are follows from the user as the user is now. Who goes to another organization
  takes the rows of before along, but not at once: they may be any number, and the app would wait for them. The mapping
  keeps the tenants that they may still have (`former`), and the next `tenantry adopt apply` settles them in batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tenantry.adopt import ddl
from tenantry.adopt.catalog import SCHEMA, Schema, Table
from tenantry.adopt.names import listing, literal, quote, shorten
from tenantry.adopt.plan import Decision, Plan, Source, reference_of, value_of
from tenantry.adopt.step import LEAF, PAGES, Known, Line, Step

_CHUNK = 1_000
_GIVEN = f"{SCHEMA}.given"


def make_place(known: Known) -> Step:
    sql = (f"create schema if not exists {SCHEMA}", *give(known.given))
    undo = (f"drop table if exists {_GIVEN}",)
    return Step("expand", "make room for what the move needs to know", "", "together", sql, undo)


def give(lines: Sequence[Line]) -> Iterator[str]:
    """Has the database know what names and files of the plan stand for; what it knows already stays."""
    yield f"create table if not exists {_GIVEN} (kind text, key text, clerk_id text not null, primary key (kind, key))"
    for start in range(0, len(lines), _CHUNK):
        values = ", ".join(f"({', '.join(map(literal, line))})" for line in lines[start : start + _CHUNK])
        yield f"insert into {_GIVEN} values {values} on conflict do nothing"


def give_rest() -> Step:
    """From here on rows of nobody known are whose the plan says: not before those are looked for who are known."""
    line = f"select kind, 'in force', clerk_id from {_GIVEN} where kind = 'rest'"
    sql = f"insert into {_GIVEN} {line} on conflict do nothing"
    undo = f"delete from {_GIVEN} where kind = 'rest' and key = 'in force'"
    return Step("backfill", "know who gets the rest", "", "together", (sql,), (undo,))


def is_rest_new() -> str:
    """A query: whether the plan says who gets the rest, and nobody has it yet."""
    return f"select count(*) = 1 from {_GIVEN} where kind = 'rest'"


def rest(key: str = "id") -> str:
    """In SQL: the tenant of rows of nobody known, null where none is named; `key` is what of it a column holds."""
    found = "tenantry.adopt_tenant_v1(g.clerk_id)" if key == "id" else "g.clerk_id"
    return f"(select {found} from {_GIVEN} as g where g.kind = 'rest' and g.key = 'in force')"


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
    return f"(select g.clerk_id from {_GIVEN} as g where g.kind = {literal(kind)} and g.key = {key})"


def make_mapping(plan: Plan, schema: Schema, source: Source, kind: str) -> Step:
    """Whose rows go where; new users and organizations are added as they come, and changed as they change."""
    kept = mapping(kind)
    if not source.table:
        return Step(
            "expand",
            f"remember the tenants of {kind}",
            "",
            "together",
            _make_table(kind, "text"),
            (f"drop table if exists {kept}",),
        )
    column = schema.tables[source.table].column(source.key)
    function = f"{SCHEMA}.{quote(shorten('place', kind))}"
    watched = _watched(plan, source, kind)
    sql = (
        *_make_table(kind, column.type if column else "text"),
        # What it waits for is a batch of ours, at most: no reason not to know where somebody went.
        ddl.function(function, _body(plan, schema, source, kind), "lock_timeout = 0"),
        f"create or replace trigger zz_tenantry_adopt_place after insert or update of {listing(watched)}"
        f" on {source.table}\n  for each row execute function {function}()",
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


def _make_table(kind: str, type_: str) -> tuple[str, str]:
    """`tenant_id` is null where there is none (yet); `former`, where it is not, are the tenants that rows of before may
    have, besides none; `changed` is the transaction that said so."""
    kept = mapping(kind)
    return (
        f"create table if not exists {kept} (key {type_} primary key, tenant_id uuid, former uuid[],\n"
        "  changed xid8 not null default pg_current_xact_id())",
        f"create index if not exists moved_{kind} on {kept} (key) where former is not null",
    )


def _watched(plan: Plan, source: Source, kind: str) -> list[str]:
    """The columns of a table of owners that say where the rows go."""
    if kind == "users" and plan.rows.to in ("column", "csv"):
        return list(filter(None, [source.key, plan.rows.column if plan.rows.to == "column" else ""]))
    return list(filter(None, [source.key, source.clerk_id]))


def _body(plan: Plan, schema: Schema, source: Source, kind: str) -> str:
    watched = _watched(plan, source, kind)
    same = " and ".join(f"old.{column}::text is not distinct from new.{column}::text" for column in watched)
    left = _former("null", "rest", "coalesce(placed.tenant_id, rest)")
    first = f"case when tg_op = 'UPDATE' then {left} end"
    if _may_be_named_before(plan, schema, source):
        first = f"case when tg_op = 'UPDATE' or rest <> placed.tenant_id then {left} end"
    gone = _former("m.former", "coalesce(m.tenant_id, rest)", "coalesce(excluded.tenant_id, rest)")
    return f"""declare
  rest constant uuid := {rest()};
begin
  if tg_op = 'UPDATE' and {same} then
    return null;
  end if;
  insert into {mapping(kind)} as m (key, tenant_id, former)
  select new.{source.key}, placed.tenant_id,
    {first}
  from (select {place(plan, source, kind, "new")}) as placed(tenant_id)
  on conflict (key) do update set tenant_id = excluded.tenant_id, changed = excluded.changed,
    former = {gone}
  where m.tenant_id is null or m.tenant_id is distinct from excluded.tenant_id;
  return null;
exception when others then
  raise warning 'tenantry adopt: %', sqlerrm;  -- the app goes on; the row's owner is looked for again later
  return null;
end"""


def _may_be_named_before(plan: Plan, schema: Schema, source: Source) -> bool:
    """Whether rows may name who comes only later: until then the rest has them."""
    naming = [each for each in plan.owned if each.tenant == "owner" and plan.source(schema, each) == source]
    references = [reference_of(schema, decision) for decision in naming]
    return any(reference is not None and reference.loose for reference in references)


def _former(former: str, left: str, now: str) -> str:
    """In SQL: the tenants that rows may still have when their owner leaves one of them for another, or for none."""
    return f"array_remove(array_remove(array_append(coalesce({former}, '{{}}'::uuid[]), {left}), null), {now})"


def fill_mapping(plan: Plan, schema: Schema, source: Source, kind: str, naming: Iterable[Decision]) -> Iterator[Step]:
    """Whose tenants are whose so far. `naming` are the tables that name owners; without a table of owners they are all
    that is known of them."""
    if source.table:
        table = schema.tables[source.table]
        yield _fill(table, kind, source.key, place(plan, source, kind, "t"), f"{LEAF} as t", f"{PAGES} and ")
    for decision in () if source.table else naming:
        key = decision.column[0]
        rows = f"(select distinct t.{key} from {LEAF} as t where {PAGES} and t.{key} is not null) as t"
        yield _fill(schema.tables[decision.table], kind, key, f"tenantry.adopt_tenant_v1(t.{key})", rows, "")
    yield Step("backfill", f"analyze {mapping(kind)}", "", "alone", (f"analyze {mapping(kind)}",))


def _fill(table: Table, kind: str, key: str, tenant: str, rows: str, where: str) -> Step:
    """Looks for those that have no tenant yet. What a trigger has said since the rows were read is newer, and stays."""
    kept = mapping(kind)
    left = _former("null", "placed.rest", "placed.tenant_id")
    more = _former("m.former || coalesce(excluded.former, '{}')", "null", "excluded.tenant_id")
    sql = f"""insert into {kept} as m (key, tenant_id, former, changed)
select placed.key, placed.tenant_id, nullif({left}, '{{}}'), coalesce(placed.changed, pg_current_xact_id())
from (
  select t.{key} as key, {tenant} as tenant_id, {rest()} as rest, known.changed
  from {rows} left join {kept} as known on known.key = t.{key}
  where {where}known.tenant_id is null) as placed
where placed.tenant_id is not null
on conflict (key) do update set tenant_id = excluded.tenant_id, changed = pg_current_xact_id(),
  former = nullif({more}, '{{}}')
where m.tenant_id is null and m.changed = excluded.changed"""
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
            (*drops, f"drop table if exists {_GIVEN}"),
        )
    )
    return steps
