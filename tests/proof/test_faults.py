"""Faults by name, of those that no module's own tests have: they cost time, end nobody falsely, and lose nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from conformance.pgbouncer import bouncing
from databases import Database
from reconciling import Query, World, clerk_world
from tenantry.errors import ReconcileUnderWay
from tenantry.mirror import Call
from tenantry.pool import Pool
from tenantry.reconcile import Plan, reconcile

MEMBERS = "/organization_memberships"
PATIENCE = 60  # seconds, for what takes a fraction of one


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with clerk_world(database) as made:
        org = made.organization("Acme", made.user("ada"))
        made.people(20, org)
        yield made


async def test_of_two_runs_at_once_the_second_is_refused_and_the_first_ends_well(world: World) -> None:
    world.clock.pass_seconds(3)
    begun, refused = asyncio.Event(), asyncio.Event()
    async with world.api() as api, world.pool() as pool:
        run = pool.run

        async def run_slowly(call: Call) -> str:
            if call.function == "merge_page_v1":
                begun.set()
                await asyncio.wait_for(refused.wait(), PATIENCE)
            return await run(call)

        pool.run = run_slowly  # type: ignore[method-assign]
        first = asyncio.create_task(reconcile(api, pool, Plan(page_size=5)))
        await asyncio.wait_for(begun.wait(), PATIENCE)
        with pytest.raises(ReconcileUnderWay):
            await world.reconcile()
        refused.set()
        assert (await asyncio.wait_for(first, PATIENCE)).agrees
    world.check()


async def test_many_runs_at_once_end_in_what_clerk_has(world: World) -> None:
    ended = await asyncio.gather(*(world.reconcile() for _ in range(6)), return_exceptions=True)
    assert not [one for one in ended if isinstance(one, BaseException) and not isinstance(one, ReconcileUnderWay)]
    assert any(not isinstance(one, BaseException) for one in ended)
    world.check()


async def start(world: World) -> asyncio.subprocess.Process:
    """`tenantry reconcile` as a process."""
    environment = os.environ | {
        "CLERK_SECRET_KEY": world.settings.secret_key or "",
        "CLERK_API_URL": world.settings.api_url,
        "DATABASE_URL": world.database.dsn(),
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tenantry", "reconcile", "--json"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_a_process_killed_in_mid_run_is_gone_on_with_by_the_next(world: World) -> None:
    world.clock.pass_seconds(3)
    asked, killed = threading.Event(), threading.Event()

    def before(path: str, query: Query) -> None:
        if path == MEMBERS and not asked.is_set():
            asked.set()
            killed.wait(PATIENCE)

    world.faults.before = before
    process = await start(world)
    try:
        assert await asyncio.to_thread(asked.wait, PATIENCE)
        process.send_signal(signal.SIGKILL)
        await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        killed.set()
    assert world.mirror.one("select count(*) from tenantry.users") == 21
    assert world.mirror.one("select count(*) from tenantry.tenant_memberships") == 0

    world.faults.asked.clear()
    process = await start(world)
    out, error = await asyncio.wait_for(process.communicate(), PATIENCE)
    report = json.loads(out)
    assert (process.returncode, report["resumed"], report["agrees"]) == (0, True, True), error
    assert "/users" not in world.faults.paths(), "what was listed is not listed again"
    world.check()


@pytest.mark.requires("pgbouncer")
async def test_behind_a_pooler_of_transactions_a_run_does_the_same(world: World) -> None:
    world.clock.pass_seconds(3)
    with bouncing(world.database, size=3) as url:
        pool = Pool(url)
        await pool.open()
        try:
            async with world.api() as api:
                assert (await reconcile(api, pool, Plan(page_size=5))).agrees
                world.check()
                (org_id,) = world.emulator.store.state.organizations
                world.leave(org_id, next(iter(world.emulator.store.state.users)))
                world.clock.pass_seconds(3)
                assert (await reconcile(api, pool, Plan(page_size=5))).tallies["memberships"].ended == 1
        finally:
            await pool.close()
    world.check()
