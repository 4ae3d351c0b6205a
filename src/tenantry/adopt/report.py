"""Counts, while the app still runs without isolation, what isolation would refuse: by table and query, sampled.

How it counts, and why so. Only row level security sees the rows that a query reads, so for as long as it is on, each
table has a policy that lets everything pass and looks: is there a tenant, and is the row that tenant's?
- What it finds it says with NOTIFY, to the session that watches. A policy that wrote to a table would fail in READ ONLY
  transactions, would make readers wait for each other and would lose its counts with a ROLLBACK, which NOTIFY does too:
  what is rolled back is not counted. A log is out of reach on most hosted servers.
- A policy is asked for the first time at the first row: a statement that meets none, not even one that its other
  conditions leave out, is not seen. Behind isolation it is refused too, where it has no tenant.
- A transaction is looked at whole or not at all, by chance. In the others a statement asks once whether it is one of
  them; each row then costs a comparison of booleans. In those that are, only rows of others cost more.
- Rows are told at the 1st, 2nd, 4th, 8th, ... of a statement: their number is "at least".
- Nothing is counted after a deadline, even if who watches was killed and left the policies behind; they are named
  `tenantry_report`, and isolation drops them, as `--off` does.

What it costs: at a sample of 1 % about 10 µs of the server's CPU for a statement on a watched table (a read by key: 12
without, about 22 with), and a scan of 20,000 rows 1.2 times as much. In a transaction that is looked at 0.1 ms for a
statement without a tenant, and 3 µs for a row of another tenant.

What it costs besides, and why it is off by default: as behind isolation, conditions that are not leakproof (LIKE,
full text, expressions) are asked after the policy and find no index (180 times as much, where that was 20,000 rows): a
table with an index that such conditions need is watched on request alone; COPY ... FROM into the tables is refused by
PostgreSQL; a transaction that found something cannot be PREPAREd. No query on the tables runs in parallel. Superusers,
roles with BYPASSRLS, and the owner of the tables unless `owner` says so are not seen. What is read out of a partition
by its own name is not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tenantry.adopt import runner
from tenantry.adopt.catalog import SCHEMA, Schema, Table
from tenantry.adopt.names import literal
from tenantry.adopt.plan import Plan, TenantColumn, tenant_column
from tenantry.adopt.runner import Pace
from tenantry.adopt.step import Step
from tenantry.errors import AdoptionRefused

if TYPE_CHECKING:
    import psycopg

CHANNEL = "tenantry_adopt_report"
POLICY = "tenantry_report"
_TEXT = 300  # characters of a query that are told

KINDS = {
    "no_tenant": "without a tenant",
    "read": "rows of another tenant read",
    "write": "rows of another tenant written",
    "unowned": "rows of no tenant met",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a query did to a table. `query_id` is PostgreSQL's, where it computes them and lets the app's login see its
    own; `query` its text without comments, strings and numbers. `rows` are at least so many; 0 for `no_tenant`."""

    kind: str
    table: str
    query: str
    query_id: int | None
    transactions: int
    rows: int


@dataclass(frozen=True, slots=True)
class Report:
    """`unseen` says of tables why nothing was counted there. Numbers are of the sample: one is about 1 / `sample`."""

    seconds: float
    sample: float
    tables: tuple[str, ...]
    unseen: Mapping[str, str]
    found: tuple[Found, ...]


def observe(
    connection: psycopg.Connection[Any],
    plan: Plan,
    schema: Schema,
    *,
    seconds: float,
    sample: float,
    owner: bool = False,
    slow: bool = False,
    begun: Callable[[], None] = lambda: None,
    pace: Pace | None = None,
) -> Report:
    """Watches for so many seconds, or until it is interrupted; leaves nothing behind. The connection is the owner's, in
    autocommit mode. `owner`: what the tables' owner does is counted too. `slow`: tables too of which queries find an
    index no more meanwhile. Raises AdoptionRefused where there is nothing to compare with yet."""
    unseen = dict(_unseen(connection, plan, schema, slow=slow))
    watched = [d.table for d in plan.owned if d.table not in unseen]
    if not watched:
        raise AdoptionRefused("There is no table to watch.", detail="\n".join(f"- {t}: {r}" for t, r in unseen.items()))
    sums = _Sums()
    began = time.monotonic()
    with _watching(connection, plan, schema, watched, seconds, sample, owner, pace or Pace()):
        begun()
        try:
            for told in connection.notifies(timeout=max(0.0, began + seconds - time.monotonic())):
                sums.add(told.payload)
        except KeyboardInterrupt:
            pass
    for told in connection.notifies(timeout=0):  # of transactions that ended meanwhile
        sums.add(told.payload)
    connection.execute(f"unlisten {CHANNEL}".encode())
    return Report(time.monotonic() - began, sample, tuple(watched), unseen, sums.found())


def switch_off(connection: psycopg.Connection[Any], schema: Schema, pace: Pace | None = None) -> list[str]:
    """Takes away what a killed watcher left; answers from which tables."""
    left = [name for (name,) in connection.execute(_LEFT, [POLICY]) if name in schema.tables]
    for name in left:
        _switch(connection, schema.tables[name], _off(name), pace or Pace())
    for function in ("report_enter(text, text)", "report_row(text, text)"):
        connection.execute(f"drop function if exists {SCHEMA}.{function}".encode())
    return left


# --- on and off -------------------------------------------------------------------------------------------------------


def _unseen(
    connection: psycopg.Connection[Any], plan: Plan, schema: Schema, *, slow: bool
) -> Iterator[tuple[str, str]]:
    for decision in plan.owned:
        table = schema.tables.get(decision.table)
        if table is None:
            yield decision.table, "it is not in the database"
            continue
        row = connection.execute(_SECURED, [POLICY, table.name]).fetchone()
        secured, left = row or (False, False)
        if table.isolation:
            yield table.name, "it is isolated already"
        elif left:
            yield table.name, "somebody watches it, or was killed: run it with --off first"
        elif secured:
            yield table.name, "it has row level security of its own"
        elif table.column(tenant_column(plan, schema, decision).name) is None:
            yield table.name, "its rows have no tenant yet: run `tenantry adopt apply --to backfill` first"
        elif not slow and (index := next((each.name for each in table.indexes if not each.plain), "")):
            yield table.name, f"meanwhile queries would not find its index {index}: --slow watches it all the same"


_SECURED = """
select c.relrowsecurity, exists (select from pg_policy as p where p.polrelid = c.oid and p.polname = %s)
from pg_class as c where c.oid = %s::regclass"""

_LEFT = """
select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
from pg_policy as p join pg_class as c on c.oid = p.polrelid join pg_namespace as n on n.oid = c.relnamespace
where p.polname = %s order by 1"""


@contextmanager
def _watching(
    connection: psycopg.Connection[Any],
    plan: Plan,
    schema: Schema,
    watched: list[str],
    seconds: float,
    sample: float,
    owner: bool,
    pace: Pace,
) -> Iterator[None]:
    for statement in (f"listen {CHANNEL}", *_functions(seconds, sample)):
        connection.execute(statement.encode())
    try:
        for decision in plan.owned:
            if decision.table in watched:
                column = tenant_column(plan, schema, decision)
                _switch(connection, schema.tables[decision.table], _on(decision.table, column, owner), pace)
        yield
    finally:
        if not connection.closed:
            switch_off(connection, schema, pace)


def _switch(connection: psycopg.Connection[Any], table: Table, sql: tuple[str, ...], pace: Pace) -> None:
    """Under a lock that nobody waits for longer than for a step's."""
    step = Step("constrain", f"watch {table.name}", table.name, "together", sql, (), "ACCESS EXCLUSIVE", table.leaves)
    runner.briefly(connection, step, pace)


def _on(table: str, column: TenantColumn, owner: bool) -> tuple[str, ...]:
    enter = f"(select {SCHEMA}.report_enter({literal(table)}, {column.current}))"
    mine = f"{column.name} = (select {column.current}::{column.type})"

    def look(kind: str) -> str:
        told = f"case when {column.name} is null then 'unowned' else '{kind}' end"
        row = f"{SCHEMA}.report_row({literal(table)}, {told})"
        return f"case when not {enter} or {mine} then true else {row} end"

    force = (f"alter table {table} force row level security",) if owner else ()
    policy = f"create policy {POLICY} on {table} using ({look('read')}) with check ({look('write')})"
    return (policy, f"alter table {table} enable row level security", *force)


def _off(table: str) -> tuple[str, ...]:
    """Where somebody has made policies meanwhile, row level security is theirs."""
    off = f"alter table {table} no force row level security; alter table {table} disable row level security"
    others = f"exists (select from pg_policy where polrelid = {literal(table)}::regclass)"
    return (
        f"drop policy if exists {POLICY} on {table}",
        f"do $$ begin if not {others} then {off}; end if; end $$",
    )


def _functions(seconds: float, sample: float) -> tuple[str, ...]:
    """Run as whoever asks, with nothing of ours in reach; they never fail whoever asks."""
    tell = f"""pg_notify('{CHANNEL}', json_build_object('kind', kind, 'table', report_table, 'rows', number,
      'statement', extract(epoch from statement_timestamp())::text,
      'transaction', pg_backend_pid() || ' ' || extract(epoch from now()),
      'query_id', (select a.query_id::text from pg_stat_get_activity(pg_backend_pid()) as a),
      'query', {_ANONYMOUS})::text)"""
    head = "returns boolean language plpgsql set search_path = pg_catalog, pg_temp as $fn$"
    enter = f"""create or replace function {SCHEMA}.report_enter(report_table text, tenant text) {head}
#variable_conflict use_variable
declare
  kind   constant text := 'no_tenant';
  number constant bigint := 0;
begin
  if clock_timestamp() > 'epoch'::timestamptz + interval '1 second' * {time.time() + seconds}
    or (hashtextextended(pg_backend_pid() || ' ' || extract(epoch from now()), 0) & 65535) >= {round(sample * 65536)}
    or current_user = 'tenantry_bypass' then
    return false;
  elsif tenant is not null then
    return true;
  end if;
  perform {tell};
  return false;
exception when others then
  return false;
end
$fn$"""
    row = f"""create or replace function {SCHEMA}.report_row(report_table text, kind text) {head}
#variable_conflict use_variable
declare
  name   constant text := 'tenantry_report.' || kind || '_' || to_regclass(report_table)::oid;
  stamp  constant text := extract(epoch from statement_timestamp())::text;
  before constant text := coalesce(current_setting(name, true), '');
  known  constant bigint := case when split_part(before, ' ', 1) = stamp then split_part(before, ' ', 2)::bigint end;
  number constant bigint := coalesce(known, 0) + 1;
begin
  perform set_config(name, stamp || ' ' || number, true);
  if number & (number - 1) = 0 then
    perform {tell};
  end if;
  return true;
exception when others then
  return true;
end
$fn$"""
    named = ", ".join(f"{SCHEMA}.{f}(text, text)" for f in ("report_enter", "report_row"))
    return enter, row, f"grant execute on function {named} to public"


# What of a query may be shown: comments, strings and numbers hold data. What a backslash makes doubtful is cut off.
_ANONYMOUS = rf"""left(regexp_replace(regexp_replace(split_part(regexp_replace(
        case when position('\' in current_query()) > 0 then split_part(current_query(), '''', 1)
             else left(current_query(), 4000) end,
        '--[^\n]*|/\*.*?\*/|''[^'']*''|\$([a-z_]*)\$.*?\$\1\$', '?', 'gi'), '''', 1),
        '(?<!\$)\m[0-9][0-9.]*', '?', 'g'), '\s+', ' ', 'g'), {_TEXT})"""


# --- sums -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sum:
    query_id: int | None = None
    transactions: set[str] = field(default_factory=set)
    rows: dict[tuple[str, str], int] = field(default_factory=dict)


class _Sums:
    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str], _Sum] = {}

    def add(self, payload: str) -> None:
        """Anybody may notify the channel: what is not ours is passed over."""
        try:
            told = json.loads(payload)
            key = str(told["kind"]), str(told["table"]), str(told["query"]).strip()
            transaction, rows = str(told["transaction"]), int(told["rows"])
            statement, query_id = str(told["statement"]), told["query_id"] and int(told["query_id"])
        except (ValueError, LookupError, TypeError):
            return
        if key[0] not in KINDS:
            return
        found = self._sums.setdefault(key, _Sum())
        found.query_id = query_id or found.query_id
        found.transactions.add(transaction)
        place = transaction, statement
        found.rows[place] = max(found.rows.get(place, 0), rows)

    def found(self) -> tuple[Found, ...]:
        """The most frequent first."""
        found = [
            Found(kind, table, query, each.query_id, len(each.transactions), sum(each.rows.values()))
            for (kind, table, query), each in self._sums.items()
        ]
        return tuple(sorted(found, key=lambda each: (-each.transactions, each.table, each.query)))
