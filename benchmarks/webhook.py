"""What does it cost to record a webhook? Events a second over HTTP, one worker, against one upsert by hand.

The event is `organizationMembership.created`, 1.6 kB, signed: new memberships of new users (three each) in a thousand
known organizations. Tenantry verifies it, keeps it in the inbox, refuses repetitions, merges organization, user and
membership by revision and writes the change feed; the floor writes one row.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.harness.app import App
from benchmarks.harness.bench import WARM_CONNECTIONS, Bench
from benchmarks.harness.clerk import delivery, joined
from benchmarks.harness.load import raw
from benchmarks.harness.postgres import Database
from benchmarks.harness.rounds import Contender, Turn, by_cpu, by_median, by_rate, p95, shuffled, to_floor, typical
from benchmarks.harness.tables import Cell, Goal, Table

FLOOR = "hmac, one upsert (asyncpg), bare ASGI"
CONTENDERS = (
    Contender(FLOOR, "floor", "benchmarks.contenders.webhook_floor:with_one_upsert"),
    Contender("hmac alone, no database", "reference", "benchmarks.contenders.webhook_floor:without_database"),
    Contender("FastAPI, svix, SQLAlchemy upserts", "peer", "benchmarks.contenders.webhook_sqlalchemy:with_models"),
    Contender("the same with prepared text()", "peer", "benchmarks.contenders.webhook_sqlalchemy:with_text"),
    Contender("Tenantry", "ours", "benchmarks.contenders.webhook_tenantry:as_documented"),
)
TABLES = """
    create table orgs (id text primary key, name text, slug text, image_url text, created_at bigint, updated_at bigint);
    create table users (id text primary key, identifier text, first_name text, last_name text, image_url text);
    create table memberships (
      id text primary key, org_id text not null, user_id text not null, role text not null, permissions text[] not null,
      created_at bigint, updated_at bigint not null);
    create index on memberships (org_id, user_id);
    create index on memberships (user_id);
"""
MIRRORED = """
    select m.id, t.clerk_org_id, m.user_id, m.role, array(select unnest(m.permissions) order by 1), m.revision
    from tenantry.tenant_memberships m join tenantry.tenants t on t.id = m.tenant_id order by m.id
"""
UPSERTED = """
    select id, org_id, user_id, role, array(select unnest(permissions) order by 1), updated_at
    from memberships order by id
"""
PATH = "/webhooks/clerk"
ORGANIZATIONS = 1000
TURNS, QUICK_TURNS = {1: 300, 16: 600, 64: 1200}, {1: 120, 16: 250, 64: 600}  # connections: deliveries in a turn
ROUNDS, QUICK_ROUNDS = 15, 5
GOALS = {1: 0.7, 64: 1.2}  # connections: share of the floor's events a second
Turns = dict[tuple[str, int], list[Turn]]  # name, connections


def measure(bench: Bench) -> list[Table]:
    contenders = bench.choose(CONTENDERS)
    databases = {contender: _prepare(bench, contender, number) for number, contender in enumerate(contenders)}
    started = bench.serve({contender: (contender, database) for contender, database in databases.items()})
    apps = {contender: (app, databases[contender]) for contender, app in started.items()}
    check(apps)
    warm = organizations_seen()
    for app, database in apps.values():
        bench.load.send(app.port, warm, WARM_CONNECTIONS)
        database.settle()
    turns = _take_turns(bench, contenders, started)
    _check_counts(apps, len(warm) + CHECKED, turns)
    return [_table(contenders, turns)]


def _prepare(bench: Bench, contender: Contender, number: int) -> Database:
    """A database of its own, so that nobody's rows are in another's way."""
    database = bench.cluster.create(f"webhook_{number}")
    if contender.role == "ours":
        database.install_tenantry()
    else:
        database.run_as_app(TABLES)
    return database


def _take_turns(bench: Bench, contenders: Sequence[Contender], apps: dict[Contender, App]) -> Turns:
    counts, rounds = (QUICK_TURNS, QUICK_ROUNDS) if bench.quick else (TURNS, ROUNDS)
    turns: Turns = {(contender.name, n): [] for contender in contenders for n in counts}
    first = 1_000_000
    for order in shuffled(rounds, contenders):
        for connections, count in counts.items():
            requests = deliveries(first, count, ORGANIZATIONS)
            first += count
            for contender in order:
                turns[contender.name, connections].append(bench.take_turn(apps[contender], requests, connections))
    return turns


def deliveries(first: int, count: int, organizations: int) -> list[bytes]:
    """Requests that tell of `count` new memberships, numbered from `first`."""
    chance = random.Random(first)
    return [_request(number, chance.randrange(organizations)) for number in range(first, first + count)]


def organizations_seen() -> list[bytes]:
    """A membership in each organization, so that all are known when measuring begins."""
    return [_request(2 * ORGANIZATIONS + number, number) for number in range(ORGANIZATIONS)]


def _request(number: int, organization: int) -> bytes:
    headers, body = delivery(joined(number, organization, number // 3), number)
    return raw("POST", PATH, headers, body)


# --- checks -----------------------------------------------------------------------------------------------------------

CHECKED = 40


def check(apps: dict[Contender, tuple[App, Database]]) -> None:
    """The same deliveries twice give the same rows everywhere, and a wrong signature is refused."""
    expected = None
    for contender, (app, database) in apps.items():
        for _ in range(2):
            for number in range(CHECKED):
                headers, body = delivery(joined(number, number % 7, number // 3), number)
                status, answer = app.ask("POST", PATH, headers, body)
                _require(status == 200, contender, f"answered {status} {answer!r} to a delivery")
        headers["svix-signature"] = "v1," + "A" * 43 + "="
        _require(app.ask("POST", PATH, headers, body)[0] == 400, contender, "took a wrong signature")
        if contender.role != "reference":
            found = database.rows(MIRRORED if contender.role == "ours" else UPSERTED)
            expected = expected or found
            _require(len(found) == CHECKED and found == expected, contender, "wrote other rows")
        if contender.role == "ours":
            kept = database.rows("select outcome, conflicts, count(*) from tenantry.webhook_events group by 1, 2")
            _require(kept == [("applied", 0, CHECKED)], contender, f"kept {kept}")


def _check_counts(apps: dict[Contender, tuple[App, Database]], before: int, turns: Turns) -> None:
    """What was answered 200 is there."""
    for contender, (_, database) in apps.items():
        if contender.role == "reference":
            continue
        sent = before + sum(
            len(turn.times) for (who, _), taken in turns.items() if who == contender.name for turn in taken
        )
        table = "tenantry.tenant_memberships" if contender.role == "ours" else "memberships"
        [(found,)] = database.rows(f"select count(*) from {table}")
        _require(found == sent, contender, f"has {found} of {sent} memberships")


def _require(holds: bool, contender: Contender, wrong: str) -> None:
    if not holds:
        raise RuntimeError(f"{contender.name} {wrong}")


# --- the table --------------------------------------------------------------------------------------------------------


def _table(contenders: Sequence[Contender], turns: Turns) -> Table:
    table = Table(
        "Webhook over HTTP, one worker",
        ["contender", "role", "connections", "median us", "p95 us", "events/s", "of the floor's",
         "server CPU us", "PostgreSQL CPU us", "CPU to floor", "goal"],
    )  # fmt: skip
    for connections in sorted({connections for _, connections in turns}):
        base = turns.get((FLOOR, connections))
        for contender in contenders:
            own = turns[contender.name, connections]
            share, goals = to_floor(own, base, by_rate), []
            if share is not None and contender.role == "ours" and connections in GOALS:
                goals = [Goal("events/s to floor", share, GOALS[connections], at_least=True)]
            cells: list[Cell] = [
                contender.name, contender.role, str(connections), typical(own, by_median), p95(own),
                typical(own, by_rate), share, typical(own, lambda turn: turn.server_cpu),
                typical(own, lambda turn: turn.postgres_cpu), to_floor(own, base, by_cpu),
            ]  # fmt: skip
            table.add(cells, f"{contender.name}, {connections} connections", goals)
    return table
