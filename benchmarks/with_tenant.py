"""What does `withTenant` of a Next.js app cost? The 20 newest documents by it, and in a plain transaction of pg.

The floor is BEGIN, the same query with an explicit WHERE, COMMIT: three round trips. `withTenant` makes three too, and
has the database decide who may enter. Clerk's verification of the token is left out of both. Skipped without Node.js.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.contenders.documents import NEWEST, NEWEST_OF
from benchmarks.harness.bench import Bench
from benchmarks.harness.documents import fill_documents
from benchmarks.harness.mirror import fill_mirror, member, tenant_ids
from benchmarks.harness.postgres import Database
from benchmarks.harness.rounds import Turn, by_median, by_rate, p95, paired, typical
from benchmarks.harness.suite import compile_suite
from benchmarks.harness.tables import Cell, Goal, Table

PROGRAM = Path(__file__).parent / "contenders/node"
FLOOR, OURS = "pg, plain transaction, WHERE, no login", "withTenant, pg"
TENANTS, MEMBERS, DOCUMENTS = 1000, 20, 200
PEOPLE = 200  # whose tokens take turns
ROUNDS, QUICK_ROUNDS = 15, 5
COUNT, QUICK_COUNT = 500, 200  # transactions in a turn
LIMIT = 1.35  # median to floor
INSTALL = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
INSTALL_SECONDS, RUN_SECONDS = 180, 600


def measure(bench: Bench) -> list[Table]:
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    compiled = None if missing else _install(bench.folder / "suite")
    if compiled is None:
        bench.say(f"skipped: {' and '.join(missing) or 'the packages'} cannot be had")
        return []
    database = bench.cluster.create("with_tenant")
    database.install_tenantry()
    fill_mirror(database, TENANTS, MEMBERS)
    fill_documents(database, DOCUMENTS)
    database.settle()
    return [_table(_run(bench, compiled, database))]


def _install(project: Path) -> Path | None:
    """The folder to run the program in; None where npm could not fetch what it needs, and said so."""
    project.mkdir()
    shutil.copy(PROGRAM / "package.json", project)
    done = subprocess.run(INSTALL, cwd=project, check=False, timeout=INSTALL_SECONDS, stdout=subprocess.DEVNULL)
    if done.returncode:
        return None
    compiled = compile_suite(project)
    shutil.copy(PROGRAM / "with_tenant.js", compiled)
    return compiled


def _run(bench: Bench, compiled: Path, database: Database) -> dict[str, list[Turn]]:
    given = {
        "rounds": QUICK_ROUNDS if bench.quick else ROUNDS,
        "count": QUICK_COUNT if bench.quick else COUNT,
        "plain": NEWEST_OF.format("$1"),
        "isolated": NEWEST,
        "members": _people(bench, database),
    }
    done = subprocess.run(
        ["node", "with_tenant.js"],
        cwd=compiled,
        env={**os.environ, "DATABASE_URL": database.url()},
        input=json.dumps(given),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=RUN_SECONDS,
    )
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: [_turn(times[name]) for times in rounds] for name in ("floor", "ours")}


def _people(bench: Bench, database: Database) -> list[dict[str, Any]]:
    """Members, each of another tenant, with the claims of a token that outlasts the run."""
    tenants = tenant_ids(database)
    chosen = random.Random(1).sample(range(len(tenants)), PEOPLE)
    return [{"tenantId": str(tenants[one]), "claims": _claims(bench, one, str(tenants[one]))} for one in chosen]


def _claims(bench: Bench, tenant: int, tenant_id: str) -> dict[str, Any]:
    payload = bench.instance.token(tenant, member(tenant, 3), tenant_id=tenant_id).split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims | {"exp": int(time.time()) + 3600}


def _turn(times: list[float]) -> Turn:
    return Turn(tuple(times), len(times) / (sum(times) / 1e6), 0, 0)


def _table(turns: dict[str, list[Turn]]) -> Table:
    table = Table(
        "Next.js: 20 newest of 200,000 rows, 1,000 tenants, one connection",
        ["contender", "role", "median us", "p95 us", "transactions/s", "median to floor", "goal"],
    )
    for name, role in ((FLOOR, "floor"), (OURS, "ours")):
        own = turns[role]
        ratio = paired(own, turns["floor"], by_median)
        goals = [Goal("median to floor", ratio, LIMIT)] if role == "ours" else []
        cells: list[Cell] = [name, role, typical(own, by_median), p95(own), typical(own, by_rate), ratio]
        table.add(cells, name, goals)
    return table
