"""What does it cost to verify a session token? Time of one call, against the RSA verification that nobody gets around.

The tokens are Clerk's of version 2, 1 kB, RSA-2048. At first sight no token repeats; the second table shows what the
same token costs again, where Tenantry remembers it and the others do not.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from importlib import import_module
from time import perf_counter_ns

from benchmarks.contenders.tokens import Verify
from benchmarks.harness.bench import Bench
from benchmarks.harness.clerk import forge
from benchmarks.harness.rounds import Contender, Turn, by_median, by_rate, p95, shuffled, to_floor, typical
from benchmarks.harness.tables import Goal, Table

MODULE = "benchmarks.contenders.tokens"
FLOOR = "raw RSA verification (cryptography)"
CONTENDERS = (
    Contender(FLOOR, "floor", f"{MODULE}:raw_rsa"),
    Contender("joserfc", "peer", f"{MODULE}:joserfc"),
    Contender("PyJWT, key object", "peer", f"{MODULE}:pyjwt"),
    Contender("clerk-backend-api, jwt_key", "peer", f"{MODULE}:clerk_backend_api"),
    Contender("fastapi-clerk-auth", "peer", f"{MODULE}:fastapi_clerk_auth"),
    Contender("Tenantry", "ours", f"{MODULE}:tenantry"),
)
TOKENS = 200  # in a turn
ROUNDS, QUICK_ROUNDS = 25, 7
REPEATS = 50  # a remembered token is faster than the clock is fine: its time is a mean over these
FIRST_LIMIT, AGAIN_LIMIT = 3.0, 0.06


def measure(bench: Bench) -> list[Table]:
    return asyncio.run(_measure(bench))


async def _measure(bench: Bench) -> list[Table]:
    contenders = bench.choose(CONTENDERS)
    verifiers = {contender: _make(contender, bench) for contender in contenders}
    for contender, verify in verifiers.items():
        await check(contender, verify, bench)
    rounds = QUICK_ROUNDS if bench.quick else ROUNDS
    tokens = [bench.instance.token(n % 50, n) for n in range(rounds * TOKENS)]
    first: dict[Contender, list[Turn]] = {contender: [] for contender in contenders}
    again: dict[Contender, list[Turn]] = {contender: [] for contender in contenders}
    for number, order in enumerate(shuffled(rounds, contenders)):
        fresh = tokens[number * TOKENS : (number + 1) * TOKENS]
        for contender in order:
            first[contender].append(await _time(verifiers[contender], fresh))
        for contender in order:
            repeats = REPEATS if contender.role == "ours" else 1
            again[contender].append(await _time(verifiers[contender], fresh[-1:] * TOKENS, repeats))
    return [
        _table(f"Session token of {len(tokens[0])} bytes at first sight", first, FIRST_LIMIT),
        _table("The same token again", again, AGAIN_LIMIT),
    ]


async def check(contender: Contender, verify: Verify, bench: Bench) -> None:
    """It takes a good token, and refuses one with another signature and, the floor aside, an expired one."""
    token = bench.instance.token(1, 1)
    await verify(token)
    await verify(token)
    bad = [forge(token)] if contender.role == "floor" else [forge(token), bench.instance.token(1, 1, issued_at=1)]
    for refused in bad:
        try:
            await verify(refused)
        except Exception:  # noqa: BLE001  each library has errors of its own
            continue
        raise RuntimeError(f"{contender.name} took a bad token")


def _make(contender: Contender, bench: Bench) -> Verify:
    module, _, function = contender.make.partition(":")
    made: Verify = getattr(import_module(module), function)(bench.instance)
    return made


async def _time(verify: Verify, tokens: Sequence[str], repeats: int = 1) -> Turn:
    times = []
    gc.collect()
    gc.disable()
    for token in tokens:
        started = perf_counter_ns()
        for _ in range(repeats):
            await verify(token)
        times.append((perf_counter_ns() - started) / 1000 / repeats)
    gc.enable()
    mean = sum(times) / len(times)
    return Turn(tuple(times), 1e6 / mean, mean, 0)


def _table(title: str, turns: dict[Contender, list[Turn]], limit: float) -> Table:
    table = Table(title, ["contender", "role", "median us", "p95 us", "calls/s", "median to floor", "goal"])
    floor = next((contender for contender in turns if contender.name == FLOOR), None)
    for contender, own in turns.items():
        ratio = to_floor(own, turns[floor] if floor else None, by_median)
        goals = [Goal("median to floor", ratio, limit)] if ratio is not None and contender.role == "ours" else []
        measured = typical(own, by_median), p95(own), typical(own, by_rate), ratio
        table.add([contender.name, contender.role, *measured], contender.name, goals)
    return table
