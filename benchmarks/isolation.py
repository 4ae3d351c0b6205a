"""What does isolation itself cost a query? The same rows behind policies, and in plain tables with an explicit WHERE.

At the driver, inside one transaction whose tenant is set already: entering it is what `request` measures. Three kinds
of query cannot use their index under any policy; for each the table has a remedy too.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks.harness import cpu
from benchmarks.harness.bench import Bench
from benchmarks.harness.mirror import fill_mirror, tenant_ids
from benchmarks.harness.postgres import Database
from benchmarks.harness.rounds import Turn, by_cpu, by_median, p95, paired, shuffled, typical
from benchmarks.harness.tables import Goal, Table

TENANTS, QUICK_TENANTS = 10, 3
ROWS = 100_000  # of each tenant
FOLDERS, PEOPLE, VOCABULARY = 500, 1000, 2000  # of each tenant; words in all
ROUNDS, QUICK_ROUNDS = 9, 5
WARM = 8  # PostgreSQL plans a prepared statement anew for its first five
LIMIT = 1.1
SET_TENANT = "select tenantry.set_tenant_by_id_v1($1, 'benchmark')"
SETTINGS = {"max_parallel_workers_per_gather": "0"}  # a worker's CPU time would be gone when it is read

_TABLES = """
    create table {schema}.folders (tenant_id uuid not null, id bigint primary key, name text not null);
    create table {schema}.people (tenant_id uuid not null, id bigint primary key, name text not null);
    create table {schema}.items (
      tenant_id uuid not null, id bigint primary key, folder_id bigint not null, person_id bigint not null,
      amount integer not null, email text not null, title text not null, created_at timestamptz not null,
      words tsvector generated always as (to_tsvector('simple', title)) stored,
      email_lower text generated always as (lower(email)) stored,
      title_ordered text collate "C" generated always as (title) stored);
    create table {schema}.item_words (tenant_id uuid not null, word text not null, item_id bigint not null);
"""
_INDEXES = """
    create index on {schema}.folders (tenant_id);
    create index on {schema}.people (tenant_id);
    create index on {schema}.items (tenant_id, created_at desc);
    create index on {schema}.items (tenant_id, folder_id);
    create index on {schema}.items (tenant_id, lower(email));
    create index on {schema}.items (tenant_id, title text_pattern_ops);
    create index on {schema}.items using gin (words);
    create index on {schema}.items (tenant_id, email_lower);
    create index on {schema}.items (tenant_id, title_ordered);
    create index on {schema}.item_words (tenant_id, word, item_id);
"""
# Ids go by row first: a tenant's rows lie apart, as where all tenants write at the same time.
_ROWS = """
    create temp table t as select id, row_number() over (order by clerk_org_id) - 1 as n from tenantry.tenants;
    insert into plain.folders
    select id, n * {folders} + f, 'folder ' || f from t, generate_series(0, {folders} - 1) as f;
    insert into plain.people
    select id, n * {people} + p, 'person ' || p from t, generate_series(0, {people} - 1) as p;
    insert into plain.items (tenant_id, id, folder_id, person_id, amount, email, title, created_at)
    select id, r * {tenants} + n, n * {folders} + r % {folders}, n * {people} + r % {people}, r % 1000,
      'Person' || r || '@Example.test',
      'w' || r % {words} || ' w' || r * 7 % {words} || ' w' || r / 7 % {words} || ' title ' || r,
      timestamptz '2026-01-01' + r * interval '1 minute'
    from generate_series(0, {rows} - 1) as r cross join t order by 2;
    insert into plain.item_words select tenant_id, unnest(tsvector_to_array(words)), id from plain.items;
"""
_FILLED = {
    "folders": "tenant_id, id, name",
    "people": "tenant_id, id, name",
    "items": "tenant_id, id, folder_id, person_id, amount, email, title, created_at",
    "item_words": "tenant_id, word, item_id",
}


@dataclass(frozen=True)
class Row:
    """A row to ask for: `number` among its tenant's, of tenant `tenant` among `tenants`."""

    number: int
    tenant: int
    tenants: int

    @property
    def id(self) -> int:
        return self.number * self.tenants + self.tenant

    @property
    def word(self) -> str:
        return f"w{self.number % VOCABULARY}"


@dataclass(frozen=True)
class Query:
    """SQL over `{schema}`, with `{own[i]}` where an explicit predicate on the alias `i` goes; and its arguments."""

    sql: str
    arguments: Callable[[Row], Sequence[Any]]

    def written(self, schema: str, *, where: bool) -> str:
        return self.sql.format(schema=schema, own=_Predicates(len(self.arguments(Row(0, 0, 1))) + 1 if where else None))


class _Predicates(dict[str, str]):
    """What `{own[alias]}` becomes: the tenant as argument number `place`, or nothing."""

    def __init__(self, place: int | None) -> None:
        self._place = place

    def __missing__(self, alias: str) -> str:
        return f"and {alias}.tenant_id = ${self._place}" if self._place else ""


@dataclass(frozen=True)
class Shape:
    """A kind of query, asked `count` times in a turn. One that no index can serve under a policy has a remedy."""

    name: str
    query: Query
    count: int
    quick_count: int
    remedy: Query | None = None


def _bounds(prefix: str) -> list[str]:
    """Between which all texts lie that begin so, in the order of code points."""
    return [prefix, f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"]


_NEWEST = "select id, title, created_at from {schema}.items i where true {own[i]} order by created_at desc limit 20"
_JOIN = """
    select i.id, f.name, p.name from {schema}.items i
    join {schema}.folders f on f.id = i.folder_id {own[f]} join {schema}.people p on p.id = i.person_id {own[p]}
    where i.folder_id = $1 {own[i]} order by i.id limit 50
"""
_SEARCH = "select id from {schema}.items i where words @@ to_tsquery('simple', $1) {own[i]} order by id limit 20"
_WORDS = "select item_id from {schema}.item_words i where word = $1 {own[i]} order by item_id limit 20"
_LIKE = "select id from {schema}.items i where title like $1 {own[i]} order by title limit 20"
_RANGE = """
    select id from {schema}.items i where title_ordered >= $1 and title_ordered < $2 {own[i]}
    order by title_ordered limit 20
"""
SHAPES = (
    Shape("point", Query("select id, title from {schema}.items i where id = $1 {own[i]}", lambda r: [r.id]), 400, 150),
    Shape("newest 20", Query(_NEWEST, lambda r: []), 300, 100),
    Shape(
        "aggregate of 100,000 rows",
        Query("select count(*), sum(amount) from {schema}.items i where true {own[i]}", lambda r: []),
        *(8, 4),
    ),
    Shape("join of three tables", Query(_JOIN, lambda r: [r.tenant * FOLDERS + r.number % FOLDERS]), 100, 40),
    Shape("text search", Query(_SEARCH, lambda r: [r.word]), 20, 8, remedy=Query(_WORDS, lambda r: [r.word])),
    Shape(
        "lower(email) = …",
        Query("select id from {schema}.items i where lower(email) = $1 {own[i]}", lambda r: [_email(r)]),
        *(20, 8),
        remedy=Query("select id from {schema}.items i where email_lower = $1 {own[i]}", lambda r: [_email(r)]),
    ),
    Shape(
        "title LIKE 'prefix%'",
        Query(_LIKE, lambda r: [f"{r.word} %"]),
        *(20, 8),
        remedy=Query(_RANGE, lambda r: _bounds(f"{r.word} ")),
    ),
)


def _email(row: Row) -> str:
    return f"person{row.number}@example.test"


@dataclass(frozen=True)
class Way:
    """How a query is asked: in which schema, and whether it names its tenant."""

    name: str
    schema: str
    where: bool
    remedy: bool = False


FLOOR = Way("WHERE, no policies", "plain", True)
WAYS = (
    FLOOR,
    Way("policies", "public", False),
    Way("policies and WHERE, as the ORM adds", "public", True),
    Way("policies, remedy", "public", False, remedy=True),
)
Turns = dict[tuple[Shape, Way], list[Turn]]


def measure(bench: Bench) -> list[Table]:
    tenants = QUICK_TENANTS if bench.quick else TENANTS
    database = _fill(bench, tenants)
    return [_table(asyncio.run(_measure(bench, database, tenants)), tenants)]


def _fill(bench: Bench, tenants: int) -> Database:
    bench.say(f"filling {tenants * ROWS:,} rows, twice")
    database = bench.cluster.create("isolation")
    database.install_tenantry()
    fill_mirror(database, tenants, 1)
    database.run_as_app("create schema plain")
    for schema in ("plain", "public"):
        database.run_as_app(_TABLES.format(schema=schema))
    database.run(_ROWS.format(tenants=tenants, rows=ROWS, folders=FOLDERS, people=PEOPLE, words=VOCABULARY))
    for table, columns in _FILLED.items():
        database.run(f"insert into public.{table} ({columns}) select {columns} from plain.{table}")
    for schema in ("plain", "public"):
        database.run_as_app(_INDEXES.format(schema=schema))
    for table in _FILLED:
        database.run_as_app(f"select tenantry.isolate_table_v1('public.{table}')")
    database.settle()
    return database


async def _measure(bench: Bench, database: Database, tenants: int) -> Turns:
    ids = [UUID(tenant_id) for tenant_id in tenant_ids(database)]
    turns: Turns = {}
    async with AsyncExitStack() as stack:
        connections = {}
        for way in WAYS:
            connections[way] = await asyncpg.connect(database.url(), server_settings=SETTINGS)
            stack.push_async_callback(connections[way].close)
        stack.enter_context(cpu.apart_from(connection.get_server_pid() for connection in connections.values()))
        for shape in SHAPES:
            await check(shape, connections, ids)
        for number in range(QUICK_ROUNDS if bench.quick else ROUNDS):
            for shape in SHAPES:
                count = WARM + (shape.quick_count if bench.quick else shape.count)
                chance = random.Random(number)
                rows = [Row(chance.randrange(ROWS), number % tenants, tenants) for _ in range(count)]
                asked = {way: connections[way] for way in WAYS if shape.remedy or not way.remedy}
                for way, turn in (await _take_turns(shape, asked, rows, ids[number % tenants])).items():
                    turns.setdefault((shape, way), []).append(turn)
    return turns


async def check(shape: Shape, connections: dict[Way, Any], ids: Sequence[UUID]) -> None:
    """Every way answers the same, whether or not it names its tenant."""
    expected: list[Any] = []
    for way, connection in connections.items():
        if way.remedy and not shape.remedy:
            continue
        found = []
        for tenant, tenant_id in enumerate(ids):
            row = Row(4711, tenant, len(ids))
            async with connection.transaction():
                await _enter(connection, way, tenant_id)
                found.append(
                    [tuple(record) for record in await connection.fetch(*_statement(shape, way, row, tenant_id))]
                )
        expected = expected or found
        if found != expected or not all(found):
            raise RuntimeError(f"{shape.name}, {way.name}: {found[0][:3]}, not {expected[0][:3]}")


async def _take_turns(
    shape: Shape, connections: dict[Way, Any], rows: Sequence[Row], tenant_id: UUID
) -> dict[Way, Turn]:
    """Asks for each row in every way before the next; each way has a backend of its own, whose CPU time is counted."""
    times: dict[Way, list[float]] = {way: [] for way in connections}
    async with AsyncExitStack() as stack:
        for way, connection in connections.items():
            await stack.enter_async_context(connection.transaction())
            await _enter(connection, way, tenant_id)
            for row in rows[:WARM]:
                await connection.fetch(*_statement(shape, way, row, tenant_id))
        pids = {way: connection.get_server_pid() for way, connection in connections.items()}
        before = cpu.read(pids.values())
        for row, order in zip(rows[WARM:], shuffled(len(rows), list(connections)), strict=False):
            for way in order:
                statement = _statement(shape, way, row, tenant_id)
                started = perf_counter_ns()
                await connections[way].fetch(*statement)
                times[way].append((perf_counter_ns() - started) / 1000)
        after = cpu.read(pids.values())
    return {
        way: Turn(
            tuple(taken), 1e6 * len(taken) / sum(taken), 0, (after[pids[way]] - before[pids[way]]) / 1000 / len(taken)
        )
        for way, taken in times.items()
    }


async def _enter(connection: Any, way: Way, tenant_id: UUID) -> None:
    if way.schema == "public":
        await connection.execute(SET_TENANT, tenant_id)


def _statement(shape: Shape, way: Way, row: Row, tenant_id: UUID) -> tuple[Any, ...]:
    """The SQL and its arguments."""
    query = shape.remedy if way.remedy and shape.remedy else shape.query
    own = [tenant_id] if way.where else []
    return query.written(way.schema, where=way.where), *query.arguments(row), *own


# --- the table --------------------------------------------------------------------------------------------------------


def _table(turns: Turns, tenants: int) -> Table:
    table = Table(
        f"Isolation inside a query: {tenants * ROWS:,} rows, {tenants} tenants",
        ["query", "how", "median us", "p95 us", "PostgreSQL CPU us", "median to floor", "CPU to floor", "goal"],
    )
    for shape in SHAPES:
        base = turns[shape, FLOOR]
        for way in WAYS:
            if (shape, way) not in turns:
                continue
            own = turns[shape, way]
            ratio, cpu_ratio = paired(own, base, by_median), paired(own, base, by_cpu)
            goals = [Goal("median to floor", ratio, LIMIT), Goal("CPU to floor", cpu_ratio, LIMIT)]
            measured = typical(own, by_median), p95(own), typical(own, by_cpu)
            held = goals if _has_goal(shape, way) else []
            table.add([shape.name, way.name, *measured, ratio, cpu_ratio], f"{shape.name}, {way.name}", held)
    return table


def _has_goal(shape: Shape, way: Way) -> bool:
    """Where an index can serve the query under a policy, it is held to the floor; where none can, its remedy is."""
    return way.remedy if shape.remedy else way is not FLOOR
