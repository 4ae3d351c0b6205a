"""What does it cost to mirror everything? A reconcile run over canned pages, against a plain COPY of what it wrote.

The floor is COPY of the very rows that the run left behind, flattened beforehand, into the same tables with their
indexes and foreign keys, and no triggers: organizations, users, memberships, and the change feed. Pages come from a
transport inside the run's own process, JSON as Clerk writes it, in no order of ours. The second run finds nothing to
change, against the floor of the same turn.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qs

from benchmarks.harness import cpu
from benchmarks.harness.bench import Bench
from benchmarks.harness.clerk import EPOCH, INSTANCE, joined, organization, user_id
from benchmarks.harness.postgres import APP, Database
from benchmarks.harness.tables import Cell, Goal, Table

ORGANIZATIONS, QUICK_ORGANIZATIONS = 5_000, 500
MEMBERS = 40  # of an organization
MEMBERSHIPS_OF_A_USER = 3
LARGEST = 10  # times, for the growth
ROUNDS, QUICK_ROUNDS = 3, 1
PAGE = 500
FIRST_LIMIT, SECOND_LIMIT, WAL_LIMIT, MEMORY_LIMIT = 2.4, 1.7, 5.0, 100.0
TABLES = ("tenants", "users", "tenant_memberships", "changes")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Work:
    """What one turn did: memberships, seconds, CPU seconds of Python and PostgreSQL, bytes of WAL, MB at most."""

    rows: int
    seconds: float
    python: float
    postgres: float
    wal: int
    memory: float = 0.0

    @property
    def cpu(self) -> float:
        return self.python + self.postgres


def measure(bench: Bench) -> list[Table]:
    organizations = QUICK_ORGANIZATIONS if bench.quick else ORGANIZATIONS
    table = Table(
        "Backfill",
        ["who", "memberships", "seconds", "rows/s", "Python CPU us/row", "PostgreSQL CPU us/row", "WAL B/row",
         "Python MB", "time to floor", "CPU to floor", "goal"],
    )  # fmt: skip
    sizes = [(organizations, QUICK_ROUNDS if bench.quick else ROUNDS)]
    if not bench.quick:
        sizes.append((organizations * LARGEST, 1))
    for size, rounds in sizes:
        _add(table, size * MEMBERS, [_take_turn(bench, size, number) for number in range(rounds)])
    table.notes.append("seconds and ratios: medians over rounds; a round is a run, a run without changes, a COPY")
    return [table]


def _add(table: Table, rows: int, rounds: Sequence[tuple[Work, Work, Work]]) -> None:
    """The floor's row, the first run's and the second's."""
    names = "COPY of the same rows", "Tenantry, first run", "Tenantry, nothing to change"
    for column, name in enumerate(names):
        own = [turn[column] for turn in rounds]
        slower = median(turn[column].seconds / turn[0].seconds for turn in rounds)
        goals: list[Goal] = []
        if column == 1:
            goals = [
                Goal("time to the floor's", slower, FIRST_LIMIT),
                Goal("MB of Python", max(turn.memory for turn in own), MEMORY_LIMIT),
            ]
        elif column == 2:
            faster = median(turn[1].seconds / turn[2].seconds for turn in rounds)
            goals = [
                Goal("times as fast as the first", faster, SECOND_LIMIT, at_least=True),
                Goal("WAL bytes a row", median(turn.wal / turn.rows for turn in own), WAL_LIMIT),
            ]
        cells: list[Cell] = [
            name, f"{rows:,}", median(t.seconds for t in own), median(t.rows / t.seconds for t in own),
            median(t.python / t.rows * 1e6 for t in own), median(t.postgres / t.rows * 1e6 for t in own),
            median(t.wal / t.rows for t in own), max(t.memory for t in own) or None, slower,
            median(turn[column].cpu / turn[0].cpu for turn in rounds),
        ]  # fmt: skip
        table.add(cells, f"{name}, {rows:,} memberships", goals)


# --- a turn -----------------------------------------------------------------------------------------------------------


def _take_turn(bench: Bench, organizations: int, number: int) -> tuple[Work, Work, Work]:
    """The floor, the first run and the second, each database made anew."""
    rows = organizations * MEMBERS
    bench.say(f"backfill of {rows:,} memberships, round {number + 1}")
    ours = bench.cluster.create(f"backfill_{organizations}_{number}")
    ours.install_tenantry()
    first = _run(bench, ours, organizations)
    ours.settle()
    second = _run(bench, ours, organizations)
    _check(ours, rows)
    floor = _copy(bench, ours, f"copy_{organizations}_{number}", rows)
    return floor, first, second


def _run(bench: Bench, database: Database, organizations: int) -> Work:
    """A run in a process of its own, whose memory is then the run's."""
    wal = _wal(database)
    command = [sys.executable, "-m", "benchmarks.backfill", database.url(APP), str(organizations)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if told["agrees"] is not True:
        raise RuntimeError("the run left something undone")
    written = _wal(database) - wal
    return Work(told["listed"], told["seconds"], told["cpu"], told["postgres"], written, told["memory"])


def _check(database: Database, rows: int) -> None:
    found = database.rows(
        "select (select count(*) from tenantry.members),"
        " (select count(*) from tenantry.changes where kind = 'member.joined'),"
        " (select count(*) from tenantry.tenants where name is null)"
    )
    if found != [(rows, rows, 0)]:
        raise RuntimeError(f"the mirror has {found} of {rows} memberships")


def _copy(bench: Bench, filled: Database, name: str, rows: int) -> Work:
    """The rows of a filled mirror, out into files and, this is what counts, into an empty one."""
    empty = bench.cluster.create(name)
    empty.install_tenantry()
    columns = {table: _columns(filled, table) for table in TABLES}
    files = {table: bench.folder / f"{name}_{table}" for table in TABLES}
    with filled.connect() as source:
        for table, path in files.items():
            query = f"copy tenantry.{table} ({columns[table]}) to stdout".encode()
            with source.cursor().copy(query) as out, path.open("wb") as file:
                file.writelines(out)
    for table in TABLES:
        empty.run(f"alter table tenantry.{table} disable trigger user")
    empty.run("checkpoint")
    wal, postgres, python, began = _wal(empty), bench.cluster.cpu(), time.process_time(), time.perf_counter()
    with empty.connect() as target, target.transaction():
        for table, path in files.items():
            with target.cursor().copy(f"copy tenantry.{table} ({columns[table]}) from stdin".encode()) as into:
                for block in _blocks(path):
                    into.write(block)
        spent = cpu.spent(postgres, bench.cluster.cpu()) / 1e9
    seconds, worked = time.perf_counter() - began, time.process_time() - python
    for path in files.values():
        path.unlink()
    return Work(rows, seconds, worked, spent, _wal(empty) - wal)


def _columns(database: Database, table: str) -> str:
    query = (
        "select string_agg(attname, ',' order by attnum) from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and attgenerated = '' and not attisdropped"
    )
    return str(database.rows(query, f"tenantry.{table}")[0][0])


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _wal(database: Database) -> int:
    return int(database.rows("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")[0][0])


# --- Clerk, canned ----------------------------------------------------------------------------------------------------


class Canned:
    """The lists of an instance, a page at a time: bytes put together when they are asked for, from what all share."""

    def __init__(self, organizations: int) -> None:
        memberships = organizations * MEMBERS
        self._organizations = organizations
        self._users = -(-memberships // MEMBERSHIPS_OF_A_USER)
        self._order = array("l", range(memberships))
        random.Random(1).shuffle(self._order)
        self._templates = (
            _template(_user(_ONE)),
            _template(organization(_ONE)),
            _template(joined(_ONE, _TWO, _THREE)["data"]),
        )
        self.seconds = 0.0  # spent on making pages, which at Clerk is not the run's

    def answer(self, path: str, query: dict[str, list[str]]) -> bytes:
        began = time.process_time()
        try:
            return self._answer(path, int(query.get("offset", ["0"])[0]), int(query.get("limit", ["10"])[0])).encode()
        finally:
            self.seconds += time.process_time() - began

    def _answer(self, path: str, offset: int, limit: int) -> str:
        user, org, membership = self._templates
        match path.removeprefix("/v1"):
            case "/instance":
                return json.dumps({"object": "instance", "id": INSTANCE})
            case "/users/count":
                return json.dumps({"object": "total_count", "total_count": self._users})
            case "/users":
                return f"[{_filled(user, range(offset, min(offset + limit, self._users)))}]"
            case "/organizations":
                return _listed(
                    _filled(org, range(offset, min(offset + limit, self._organizations))), self._organizations
                )
            case "/organization_memberships":
                shown = self._order[offset : offset + limit]
                made = (self._numbers(number) for number in shown)
                return _listed(",".join(membership % numbers for numbers in made), len(self._order))
            case _:
                return _listed("", 0)

    def _numbers(self, number: int) -> dict[str, Any]:
        org, user = number % self._organizations, number // MEMBERSHIPS_OF_A_USER
        padded = {"one": f"{number:A>27}", "two": f"{org:A>27}", "three": f"{user:A>27}"}
        return padded | {"ONE": number, "TWO": org, "THREE": user, "at": EPOCH + number}


_ONE, _TWO, _THREE = 111_111_111, 222_222_222, 333_333_333


def _template(shown: Any) -> str:
    """The JSON of an object with its numbers taken out, to be put in with `%`."""
    text = json.dumps(shown, separators=(",", ":")).replace("%", "%%").replace(str(EPOCH + _ONE), "%(at)d")
    for name, number in (("one", _ONE), ("two", _TWO), ("three", _THREE)):
        text = text.replace(f"{number:A>27}", f"%({name})s").replace(str(number), f"%({name.upper()})d")
    return text


def _filled(template: str, numbers: range) -> str:
    return ",".join(template % {"one": f"{number:A>27}", "ONE": number, "at": EPOCH + number} for number in numbers)


def _listed(objects: str, total: int) -> str:
    return f'{{"data":[{objects}],"total_count":{total}}}'


def _user(number: int) -> dict[str, Any]:
    return {
        "object": "user",
        "id": user_id(number),
        "external_id": None,
        "username": None,
        "first_name": "Ben",
        "last_name": "Okafor",
        "image_url": "https://img.example.test/ben.png",
        "primary_email_address_id": f"idn_{number}",
        "email_addresses": [
            {
                "id": f"idn_{number}",
                "object": "email_address",
                "email_address": f"ben{number}@harborpine.test",
                "verification": {"status": "verified", "strategy": "admin", "attempts": None, "expire_at": None},
                "linked_to": [],
            }
        ],
        "phone_numbers": [],
        "external_accounts": [],
        "public_metadata": {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "banned": False,
        "created_at": EPOCH,
        "updated_at": EPOCH,
    }


async def _reconcile(url: str, organizations: int) -> dict[str, Any]:
    import httpx

    from tenantry.clerk import BackendApi, Budget
    from tenantry.pool import Pool
    from tenantry.reconcile import reconcile

    canned = Canned(organizations)

    def answer(request: httpx.Request) -> httpx.Response:
        content = canned.answer(request.url.path, parse_qs(request.url.query.decode()))
        return httpx.Response(200, content=content, headers={"date": formatdate(usegmt=True)})

    pool = Pool(url, timeout=120)
    await pool.open()
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="https://api.clerk.test/v1") as client:
        began, worked = time.perf_counter(), time.process_time()
        report = await reconcile(BackendApi(client, Budget(1_000_000)), pool)
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
    postgres = sum(cpu.read(await _backends(url)).values()) / 1e9
    await pool.close()
    told = {"seconds": seconds, "cpu": worked - canned.seconds, "postgres": postgres, "memory": _memory()}
    return told | {"agrees": report.agrees, "listed": report.tallies["memberships"].listed}


def _memory() -> float:
    """The most this process has held, in MB; `getrusage` would tell of the process that started it too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


async def _backends(url: str) -> list[int]:
    """The processes that serve this run."""
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("select pid from pg_stat_activity where application_name = 'tenantry'")
        return [row["pid"] for row in rows]
    finally:
        await connection.close()


if __name__ == "__main__":
    import asyncio

    print(json.dumps(asyncio.run(_reconcile(sys.argv[1], int(sys.argv[2])))))
