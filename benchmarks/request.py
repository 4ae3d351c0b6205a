"""What does a scoped request cost? Verify the token, set the tenant, query, end the transaction.

`GET /documents` answers the 20 newest of a tenant's 200 documents, of a thousand tenants. The floor reads the tenant
from a header and asks nobody; each driver has its own. Tenantry's tokens repeat, as they do in the minute a token
lives, except in the row that says so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from benchmarks.harness.app import App
from benchmarks.harness.bench import WARM_CONNECTIONS, Bench
from benchmarks.harness.clerk import forge, membership_id
from benchmarks.harness.documents import fill_documents
from benchmarks.harness.load import raw
from benchmarks.harness.mirror import fill_mirror, member, membership, remove, tenant_ids
from benchmarks.harness.peers import prepare_fastapi_rls, prepare_sqlalchemy_tenants
from benchmarks.harness.postgres import APP_OF_ROLES, Database
from benchmarks.harness.rounds import Contender, Turn, by_cpu, by_median, by_rate, p95, shuffled, to_floor, typical
from benchmarks.harness.tables import Cell, Goal, Table

FLOORS, SDK, OURS = (f"benchmarks.contenders.request_{name}" for name in ("floor", "clerk_sdk", "tenantry"))
ALCHEMY, ALCHEMY_PSYCOPG, ASYNCPG, PSYCOPG = (
    f"{driver}, WHERE, no login" for driver in ("SQLAlchemy (asyncpg)", "SQLAlchemy (psycopg)", "asyncpg", "psycopg")
)
WHERE = "clerk-backend-api, SQLAlchemy, WHERE"
FASTAPI_RLS = "clerk-backend-api, fastapi-rls"
ROLES = "clerk-backend-api, sqlalchemy-tenants"
FRESH = "Tenantry, asyncpg, one query, each token new"
CONTENDERS = (
    Contender(ALCHEMY, "floor", f"{FLOORS}:sqlalchemy_on_asyncpg"),
    Contender(WHERE, "peer", f"{SDK}:with_where", ALCHEMY),
    Contender(FASTAPI_RLS, "peer", f"{SDK}:with_fastapi_rls", ALCHEMY),
    Contender(ROLES, "peer", f"{SDK}:with_sqlalchemy_tenants", ALCHEMY, login=APP_OF_ROLES),
    Contender("Tenantry, SQLAlchemy (asyncpg)", "ours", f"{OURS}:sqlalchemy_on_asyncpg", ALCHEMY),
    Contender(ALCHEMY_PSYCOPG, "floor", f"{FLOORS}:sqlalchemy_on_psycopg"),
    Contender("Tenantry, SQLAlchemy (psycopg)", "ours", f"{OURS}:sqlalchemy_on_psycopg", ALCHEMY_PSYCOPG),
    Contender(ASYNCPG, "floor", f"{FLOORS}:on_asyncpg"),
    Contender("Tenantry, asyncpg, one query", "ours", f"{OURS}:on_asyncpg", ASYNCPG),
    Contender(FRESH, "ours", f"{OURS}:on_asyncpg", ASYNCPG),
    Contender("Tenantry, asyncpg, transaction", "ours", f"{OURS}:asyncpg_transaction", ASYNCPG),
    Contender(PSYCOPG, "floor", f"{FLOORS}:on_psycopg"),
    Contender("Tenantry, psycopg, one query", "ours", f"{OURS}:on_psycopg", PSYCOPG),
    Contender("Tenantry, psycopg, transaction", "ours", f"{OURS}:psycopg_transaction", PSYCOPG),
)
TENANTS, MEMBERS, DOCUMENTS = 1000, 20, 200
TOKENS, QUICK_TOKENS = 1000, 200
TURNS, QUICK_TURNS = {1: 200, 16: 500}, {1: 100, 16: 250}  # connections: requests in a turn
ROUNDS, QUICK_ROUNDS = 15, 5
LIMITS = {ALCHEMY: 1.2, ALCHEMY_PSYCOPG: 1.2, ASYNCPG: 1.8, PSYCOPG: 1.8}  # floor: total CPU to it
Turns = dict[tuple[str, int], list[Turn]]  # name, connections


def measure(bench: Bench) -> list[Table]:
    contenders = bench.choose(CONTENDERS)
    database = prepare(bench, contenders)
    apps = bench.serve({contender: (contender, database) for contender in contenders})
    refusals = check(bench, apps, database)
    tenants = tenant_ids(database)
    known = ready_requests(bench, tenants, QUICK_TOKENS if bench.quick else TOKENS)
    for app in apps.values():
        bench.load.send(app.port, known, WARM_CONNECTIONS)
    return [_table(contenders, _take_turns(bench, contenders, apps, tenants, known), refusals)]


def prepare(bench: Bench, contenders: Sequence[Contender]) -> Database:
    """A database with the mirror, the documents, and what the chosen peers need."""
    database = bench.cluster.create("request")
    database.install_tenantry()
    fill_mirror(database, TENANTS, MEMBERS)
    fill_documents(database, DOCUMENTS)
    names = {contender.name for contender in contenders}
    if FASTAPI_RLS in names:
        prepare_fastapi_rls(database)
    if ROLES in names:
        prepare_sqlalchemy_tenants(database)
    database.settle()
    return database


def ready_requests(bench: Bench, tenants: Sequence[str], count: int) -> list[bytes]:
    """Requests of `count` members, each of another tenant while there are as many."""
    chosen = random.Random(count).sample(range(len(tenants)), min(count, len(tenants)))
    return [raw("GET", "/documents", headers(bench, tenants, tenant, 3)) for tenant in chosen]


def headers(
    bench: Bench, tenants: Sequence[str], tenant: int, number: int, issued_at: int | None = None
) -> dict[str, str]:
    """Of a request by the tenant's member `number`: the token, and for the floors the tenant's uuid in clear."""
    token = bench.instance.token(tenant, member(tenant, number), tenant_id=tenants[tenant], issued_at=issued_at)
    return {"authorization": f"Bearer {token}", "x-tenant": tenants[tenant]}


def _take_turns(
    bench: Bench,
    contenders: Sequence[Contender],
    apps: dict[Contender, App],
    tenants: Sequence[str],
    known: list[bytes],
) -> Turns:
    counts, rounds = (QUICK_TURNS, QUICK_ROUNDS) if bench.quick else (TURNS, ROUNDS)
    turns: Turns = {(contender.name, connections): [] for contender in contenders for connections in counts}
    for number, order in enumerate(shuffled(rounds, contenders)):
        for connections, count in counts.items():
            chosen = random.Random(number).choices(known, k=count)
            for contender in order:
                requests = _fresh_requests(bench, tenants, number, count) if contender.name == FRESH else chosen
                turns[contender.name, connections].append(bench.take_turn(apps[contender], requests, connections))
    return turns


def _fresh_requests(bench: Bench, tenants: Sequence[str], number: int, count: int) -> list[bytes]:
    """Of members who have not asked before, nor with such a token."""
    chance = random.Random(number)
    issued_at = int(time.time()) - number - 1
    chosen = chance.choices(range(len(tenants)), k=count)
    return [
        raw("GET", "/documents", headers(bench, tenants, t, n % (MEMBERS - 6) + 6, issued_at))
        for n, t in enumerate(chosen)
    ]


# --- checks -----------------------------------------------------------------------------------------------------------


def check(bench: Bench, apps: dict[Contender, App], database: Database) -> dict[Contender, int]:
    """All answer the same bytes, each tenant its own, and no token with a wrong signature is taken.

    Returns what each answers to a member who was removed after the token was issued; Tenantry must refuse.
    """
    tenants = tenant_ids(database)
    expected: dict[int, bytes] = {}
    for contender, app in apps.items():
        for tenant in (3, 77):
            status, body = app.ask("GET", "/documents", headers(bench, tenants, tenant, 3))
            same = expected.setdefault(tenant, body) == body
            _require(
                status == 200 and same and body.count(b'"title"') == 20, contender, f"answered {status} {body[:200]!r}"
            )
        if contender.role != "floor":
            forged = headers(bench, tenants, 3, 3)
            forged["authorization"] = forge(forged["authorization"])
            _require(app.ask("GET", "/documents", forged)[0] == 401, contender, "took a forged token")
    if len(set(expected.values())) != len(expected):
        raise RuntimeError("two tenants have the same documents")
    return _refusals(bench, apps, database, tenants)


def _refusals(
    bench: Bench, apps: dict[Contender, App], database: Database, tenants: Sequence[str]
) -> dict[Contender, int]:
    issued_at = int(time.time()) - 60
    removed = headers(bench, tenants, 5, 5, issued_at=issued_at)
    remove(database, membership_id(membership(5, 5, MEMBERS)))
    answers = {contender: app.ask("GET", "/documents", removed)[0] for contender, app in apps.items()}
    for contender, status in answers.items():
        _require(contender.role != "ours" or status == 403, contender, f"answered {status} to a removed member")
    return answers


def _require(holds: bool, contender: Contender, wrong: str) -> None:
    if not holds:
        raise RuntimeError(f"{contender.name} {wrong}")


# --- the table --------------------------------------------------------------------------------------------------------


def _table(contenders: Sequence[Contender], turns: Turns, refusals: dict[Contender, int]) -> Table:
    table = Table(
        "Scoped request: 20 newest of 200,000 rows, 1,000 tenants",
        ["contender", "role", "connections", "median us", "p95 us", "requests/s", "server CPU us", "PostgreSQL CPU us",
         "median to floor", "CPU to floor", "removed member gets", "goal"],
    )  # fmt: skip
    for connections in sorted({connections for _, connections in turns}):
        for contender in contenders:
            own = turns[contender.name, connections]
            base = turns.get((contender.floor or contender.name, connections))
            goals = _goals(contender, own, base, turns.get((WHERE, connections)))
            cells: list[Cell] = [
                contender.name, contender.role, str(connections), typical(own, by_median), p95(own),
                typical(own, by_rate), typical(own, lambda turn: turn.server_cpu),
                typical(own, lambda turn: turn.postgres_cpu), to_floor(own, base, by_median),
                to_floor(own, base, by_cpu), str(refusals[contender]),
            ]  # fmt: skip
            table.add(cells, f"{contender.name}, {connections} connections", goals)
    return table


def _goals(contender: Contender, own: list[Turn], base: list[Turn] | None, where: list[Turn] | None) -> list[Goal]:
    if contender.role != "ours" or contender.name == FRESH:
        return []
    wanted = [("CPU to floor", to_floor(own, base, by_cpu), LIMITS[contender.floor or ALCHEMY])]
    if contender.floor == ALCHEMY:
        wanted.append((f"median to {WHERE}", to_floor(own, where, by_median), 1.0))
    return [Goal(text, value, limit) for text, value, limit in wanted if value is not None]
