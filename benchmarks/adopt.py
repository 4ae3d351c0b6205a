"""What does a live move cost? The batches of `tenantry adopt`, against one plain UPDATE ... FROM over the same rows.

The floor is what one would write with nobody looking on: a statement for each table that gives all rows their tenant
from a table of owners, in a database that is the same but for the triggers that keep new rows right meanwhile. Ours is
the phase `backfill` at default settings, with finding out who owns what, and the record of each batch. How long
anything was locked is from the whole move, until after `contract`: steps by their record, batches by the clock, from
the begin of a transaction until its commit is answered, those that were broken off too. Nobody else is at work.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import psycopg

from benchmarks.harness import cpu
from benchmarks.harness.bench import Bench
from benchmarks.harness.clerk import organization_id
from benchmarks.harness.mirror import fill_mirror
from benchmarks.harness.postgres import Database
from benchmarks.harness.tables import Cell, Goal, Table
from tenantry.adopt import catalog, move, ownership
from tenantry.adopt.plan import Plan, Rows, Source
from tenantry.adopt.record import Entry
from tenantry.adopt.runner import Pace
from tenantry.adopt.step import PHASES

SIZES, QUICK_SIZES = ((20_000, 5), (1_000_000, 3)), ((20_000, 3),)  # rows, rounds
TENANTS = 50
COMMENTS = 4  # to an article
ROWS_OF_A_USER = 200
SHARE, LONGEST_MS = 0.5, 100.0

_TABLES = """
    create table users (id bigint primary key, company text not null);
    create table articles (
      id bigint primary key, author_id bigint not null references users (id), title text not null, body text not null);
    create index articles_by_author on articles (author_id);
    create table comments (
      id bigint primary key, article_id bigint not null references articles (id), body text not null);
    create index comments_by_article on comments (article_id);
    insert into users select n, 'company ' || n % {tenants} from generate_series(0, {users} - 1) as n;
    insert into articles select n, n % {users}, 'Title ' || n, repeat('x', 200) from generate_series(1, {articles}) n;
    insert into comments select n, 1 + n % {articles}, repeat('y', 100) from generate_series(1, {comments}) n;"""

_FLOOR = """
    alter table articles add column tenant_id uuid;
    alter table comments add column tenant_id uuid;
    create table owners (key bigint primary key, tenant_id uuid not null);
    insert into owners select u.id, t.id from users as u join tenantry.tenants as t
      on t.clerk_org_id = 'org_' || lpad(split_part(u.company, ' ', 2), 27, 'A');
    analyze owners;"""

_UPDATES = (
    "update articles as t set tenant_id = m.tenant_id from owners as m where m.key = t.author_id",
    "update comments as t set tenant_id = p.tenant_id from articles as p where p.id = t.article_id",
)


class Timed(psycopg.Connection[Any]):
    """Knows how long its longest transaction took, of those that it is told to watch, in ms."""

    watched = False
    longest = 0.0

    @contextmanager
    def transaction(self, *arguments: Any, **options: Any) -> Iterator[psycopg.Transaction]:
        began = time.perf_counter()
        try:
            with super().transaction(*arguments, **options) as transaction:
                yield transaction
        finally:
            if self.watched:
                self.longest = max(self.longest, (time.perf_counter() - began) * 1000)


@dataclass
class Watch:
    """Seconds by phase; has the connection watch the transactions of batches."""

    connection: Timed
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _began: float = 0.0

    def begin(self, entry: Entry, total: int, *, undo: bool) -> None:
        self.connection.watched = entry.step.how == "batches"
        self._began = time.perf_counter()

    def progress(self, entry: Entry, done: int, total: int) -> None:
        pass

    def end(self, entry: Entry, *, undo: bool) -> None:
        self.seconds[entry.step.phase] += time.perf_counter() - self._began


@dataclass(frozen=True)
class Work:
    """One turn: seconds of the backfill, and on a core, the server's and our own; of ours also the longest of a lock
    and of a batch in ms, and each phase."""

    seconds: float
    cpu: float
    locked: float = 0.0
    lock: str = ""
    batch: float = 0.0
    phases: tuple[float, ...] = ()


def measure(bench: Bench) -> list[Table]:
    columns = ["who", "rows", "seconds", "rows/s", "of the floor's", "CPU s", "lock ms", "batch ms", "goal"]
    table = Table("Backfill of a move", columns)
    phases = Table("The whole move, seconds", ["rows", *PHASES, ""])
    for rows, rounds in QUICK_SIZES if bench.quick else SIZES:
        turns = [_take_turn(bench, rows, number) for number in range(rounds)]
        _add(table, rows, [floor for floor, _ in turns], [ours for _, ours in turns])
        spent: list[Cell] = [median(each) for each in zip(*(ours.phases for _, ours in turns), strict=True)]
        phases.add([f"{rows:,}", *spent], f"{rows:,} rows")
    table.notes.append("seconds and ratios: medians over rounds; of locks and batches the longest of any round")
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    table.notes.append(f"load of the machine in the last 1, 5 and 15 minutes: {load}")
    return [table, phases]


def _add(table: Table, rows: int, floors: Sequence[Work], ours: Sequence[Work]) -> None:
    seconds = median(each.seconds for each in floors)
    spent = median(each.cpu for each in floors)
    table.add(["UPDATE ... FROM", f"{rows:,}", seconds, rows / seconds, 1.0, spent, None, None], "floor")
    share = median(floor.seconds / own.seconds for floor, own in zip(floors, ours, strict=True))
    slowest, batch = max(ours, key=lambda each: each.locked), max(each.batch for each in ours)
    goals = [
        Goal("rows/s to the floor's", share, SHARE, at_least=True),
        Goal(f"ms under the longest lock ({slowest.lock})", slowest.locked, LONGEST_MS),
        Goal("ms of the longest batch", batch, LONGEST_MS),
    ]
    seconds = median(each.seconds for each in ours)
    spent = median(each.cpu for each in ours)
    cells: list[Cell] = ["tenantry adopt", f"{rows:,}", seconds, rows / seconds, share, spent, slowest.locked, batch]
    table.add(cells, f"tenantry adopt, {rows:,} rows", goals)


# --- a turn -----------------------------------------------------------------------------------------------------------


def _take_turn(bench: Bench, rows: int, number: int) -> tuple[Work, Work]:
    """The floor's and ours, in turns first; each in a database made anew."""
    bench.say(f"move of {rows:,} rows, round {number + 1}")
    turns = {}
    for who in ("floor", "ours") if number % 2 else ("ours", "floor"):
        database = _fill(bench, f"adopt_{who}_{rows}_{number}", rows)
        turns[who] = _update(database) if who == "floor" else _move(database)
        _check(database)
    return turns["floor"], turns["ours"]


def _fill(bench: Bench, name: str, rows: int) -> Database:
    database = bench.cluster.create(name)
    database.install_tenantry()
    fill_mirror(database, TENANTS, 1)
    articles = rows // (1 + COMMENTS)
    users = rows // ROWS_OF_A_USER
    sizes = {"tenants": TENANTS, "users": users, "articles": articles, "comments": rows - articles}
    database.run_as_app(_TABLES.format(**sizes))
    database.settle()
    return database


def _update(database: Database) -> Work:
    database.run(_FLOOR)
    database.settle()
    with database.connect() as connection:
        began, before = time.perf_counter(), _cpu(database)
        for statement in _UPDATES:
            connection.execute(statement.encode())
        return Work(time.perf_counter() - began, _spent(database, before))


def _move(database: Database) -> Work:
    with Timed.connect(database.url(), autocommit=True) as connection:
        watch = Watch(connection)
        plan = _plan(connection)
        move.apply(connection, plan, "expand", Pace(), watch)
        database.settle()
        before = _cpu(database)
        move.apply(connection, plan, "backfill", Pace(), watch)
        spent = _spent(database, before)
        move.apply(connection, plan, "contract", Pace(), watch)
        report = move.check(connection, plan, still=True)
    if not report.clean:
        raise RuntimeError(f"the move left something wrong: {report.findings}")
    phases = tuple(watch.seconds[phase] for phase in PHASES)
    return Work(watch.seconds["backfill"], spent, *_longest(database), connection.longest, phases)


def _cpu(database: Database) -> cpu.Reading:
    """Of the server with all its processes, and of this one."""
    return database.cluster.cpu() | cpu.read([os.getpid()])


def _spent(database: Database, before: cpu.Reading) -> float:
    return cpu.spent(before, _cpu(database)) / 1e9


def _plan(connection: psycopg.Connection[object]) -> Plan:
    rows = Rows(to="column", column="company", organizations=dict(_organizations()))
    schema = catalog.read(connection)
    plan, _ = ownership.propose(schema, rows, users=Source("public.users", "id"))
    return plan


def _organizations() -> Iterator[tuple[str, str]]:
    for number in range(TENANTS):
        yield f"company {number}", organization_id(number)


def _longest(database: Database) -> tuple[float, str]:
    """The step that kept a lock that others feel for longest, in ms."""
    query = """
        select held_ms, step ->> 'name' from tenantry_adopt.steps
        where step ->> 'lock' in ('ACCESS EXCLUSIVE', 'SHARE ROW EXCLUSIVE', 'SHARE') and held_ms is not null
        order by held_ms desc limit 1"""
    [(held, name)] = database.rows(query)
    return float(held), str(name)


def _check(database: Database) -> None:
    """Both must have given every row the tenant of its user's company."""
    query = """
        select count(*) from comments as c
        join articles as a on a.id = c.article_id join users as u on u.id = a.author_id
        join tenantry.tenants as t on t.clerk_org_id = 'org_' || lpad(split_part(u.company, ' ', 2), 27, 'A')
        where c.tenant_id is distinct from t.id or a.tenant_id is distinct from t.id"""
    if database.rows(query) != [(0,)]:
        raise RuntimeError("rows have another tenant than their owner")
