"""Does anything get slower with more tenants? Webhook and scoped request, the same at three sizes of the mirror.

Every request is of another tenant and member, every webhook of another organization and user, all over the data; so
caches serve less of it the more there is, for the floor too. Tenantry may grow no more than the floor does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks import request, webhook
from benchmarks.harness.app import App
from benchmarks.harness.bench import WARM_CONNECTIONS, Bench
from benchmarks.harness.clerk import delivery, joined
from benchmarks.harness.documents import fill_documents
from benchmarks.harness.load import raw
from benchmarks.harness.mirror import fill_mirror, member, membership, tenant_ids
from benchmarks.harness.postgres import Database
from benchmarks.harness.rounds import Contender, Turn, by_cpu, by_median, paired, shuffled, typical
from benchmarks.harness.tables import Cell, Goal, Table

SIZES, QUICK_SIZES = (100, 10_000, 100_000), (100, 10_000)  # tenants
MEMBERS, DOCUMENTS, BODY = 10, 20, 50
ROUNDS, QUICK_ROUNDS = 7, 5
LIMIT = 1.2  # Tenantry's growth to the floor's


@dataclass(frozen=True)
class Work:
    """A floor and ours, doing the same: `connections` at a time, `count` in a turn."""

    name: str
    floor: Contender
    ours: Contender
    connections: int
    count: int
    quick_count: int


def _named(contenders: Sequence[Contender], name: str) -> Contender:
    return next(contender for contender in contenders if contender.name == name)


_WEBHOOK = _named(webhook.CONTENDERS, webhook.FLOOR), _named(webhook.CONTENDERS, "Tenantry")
_REQUEST = (
    _named(request.CONTENDERS, request.ALCHEMY),
    _named(request.CONTENDERS, "Tenantry, SQLAlchemy (asyncpg)"),
)
_DRIVER = (
    _named(request.CONTENDERS, request.ASYNCPG),
    _named(request.CONTENDERS, "Tenantry, asyncpg, one query"),
)
WORKS = (
    Work("webhook, 1 connection", *_WEBHOOK, 1, 300, 150),
    Work("webhook, 64 connections", *_WEBHOOK, 64, 640, 400),
    Work("request, SQLAlchemy, 1 connection", *_REQUEST, 1, 200, 120),
    Work("request, asyncpg, 1 connection", *_DRIVER, 1, 300, 150),
)
Place = tuple[int, Contender]  # tenants, who


@dataclass(frozen=True)
class World:
    """A database of one size."""

    tenants: int
    database: Database
    ids: Sequence[str]


def measure(bench: Bench) -> list[Table]:
    worlds = {size: _fill(bench, size) for size in (QUICK_SIZES if bench.quick else SIZES)}
    who = dict.fromkeys(contender for work in WORKS for contender in (work.floor, work.ours))
    apps = bench.serve({(size, c): (c, world.database) for size, world in worlds.items() for c in who})
    for size, world in worlds.items():
        check(apps[size, _WEBHOOK[1]], world)
    turns = _take_turns(bench, worlds, apps)
    return [_table(worlds, turns)]


def _fill(bench: Bench, tenants: int) -> World:
    """Tenantry's mirror, the documents, and the floor's own table of as many memberships."""
    bench.say(f"filling {tenants:,} tenants, {tenants * MEMBERS:,} memberships")
    database = bench.cluster.create(f"growth_{tenants}")
    database.install_tenantry()
    fill_mirror(database, tenants, MEMBERS)
    fill_documents(database, DOCUMENTS, BODY)
    database.run_as_app(webhook.TABLES)
    database.run("""
        insert into memberships
        select m.id, t.clerk_org_id, m.user_id, m.role, m.permissions, m.revision, m.revision
        from tenantry.tenant_memberships m join tenantry.tenants t on t.id = m.tenant_id
    """)
    database.settle()
    return World(tenants, database, tenant_ids(database))


def check(app: App, world: World) -> None:
    """The event of a seeded membership tells nothing new: the mirror is what merging would have made it."""
    tenant, number = world.tenants // 2, 3
    told = joined(membership(tenant, number, MEMBERS), tenant, member(tenant, number))
    headers, body = delivery(told, 1)
    status, answer = app.ask("POST", webhook.PATH, headers, body)
    if status != 200 or b'"stale"' not in answer:
        raise RuntimeError(f"a seeded membership's own event was answered {status} {answer!r}, not stale")


def _take_turns(bench: Bench, worlds: dict[int, World], apps: dict[Place, App]) -> dict[tuple[str, Place], list[Turn]]:
    turns: dict[tuple[str, Place], list[Turn]] = {}
    first = 100_000_000
    for number, order in enumerate(shuffled(1 + (QUICK_ROUNDS if bench.quick else ROUNDS), list(apps))):
        for work in WORKS:
            count = work.quick_count if bench.quick else work.count
            for size, contender in order:
                if contender not in (work.floor, work.ours):
                    continue
                first += count
                requests = _requests(bench, worlds[size], contender, work, first, count)
                connections = work.connections if number else WARM_CONNECTIONS
                turn = bench.take_turn(apps[size, contender], requests, connections)
                if number:  # the first round warms caches and connections
                    turns.setdefault((work.name, (size, contender)), []).append(turn)
    return turns


def _requests(bench: Bench, world: World, contender: Contender, work: Work, first: int, count: int) -> list[bytes]:
    """Of random tenants and members; the floors ask for no token."""
    chance = random.Random(first)
    pairs = [(chance.randrange(world.tenants), chance.randrange(MEMBERS)) for _ in range(count)]
    if work.ours is _WEBHOOK[1]:
        told = [joined(first + n, tenant, member(*pairs[n - 1])) for n, (tenant, _) in enumerate(pairs)]
        return [raw("POST", webhook.PATH, *delivery(event, first + n)) for n, event in enumerate(told)]
    if contender.role == "floor":
        return [raw("GET", "/documents", {"x-tenant": world.ids[tenant]}) for tenant, _ in pairs]
    return [raw("GET", "/documents", request.headers(bench, world.ids, *pair)) for pair in pairs]


# --- the table --------------------------------------------------------------------------------------------------------


def _table(worlds: dict[int, World], turns: dict[tuple[str, Place], list[Turn]]) -> Table:
    table = Table(
        "Growth with the number of tenants",
        ["work", "who", "tenants", "memberships", "median us", "server CPU us", "PostgreSQL CPU us",
         "median to smallest", "CPU to smallest", "growth to floor's", "goal"],
    )  # fmt: skip
    smallest = min(worlds)
    for work in WORKS:
        for size in worlds:
            for contender in (work.floor, work.ours):
                own, base = turns[work.name, (size, contender)], turns[work.name, (smallest, contender)]
                growth, goals = None, []
                if contender is work.ours and size != smallest:
                    floors = (turns[work.name, (s, work.floor)] for s in (size, smallest))
                    growth = _growth(own, base, *floors)
                    goals = [Goal("growth to the floor's", growth, LIMIT)]
                cells: list[Cell] = [
                    work.name, contender.role, f"{size:,}", f"{size * MEMBERS:,}", typical(own, by_median),
                    typical(own, lambda turn: turn.server_cpu), typical(own, lambda turn: turn.postgres_cpu),
                    paired(own, base, by_median), paired(own, base, by_cpu), growth,
                ]  # fmt: skip
                table.add(cells, f"{work.name}, {size:,} tenants", goals)
    table.notes.append("growth to the floor's: of the CPU or of the median, whichever is larger, paired by round")
    return table


def _growth(own: list[Turn], own_base: list[Turn], floor: list[Turn], floor_base: list[Turn]) -> float:
    rounds = list(zip(own, own_base, floor, floor_base, strict=True))
    return max(
        median(o.median / ob.median / (f.median / fb.median) for o, ob, f, fb in rounds),
        median(o.cpu / ob.cpu / (f.cpu / fb.cpu) for o, ob, f, fb in rounds),
    )
