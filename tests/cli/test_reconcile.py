"""`tenantry reconcile`: what it prints, and what its exit code says."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from databases import Database, Server
from instance import fresh_database
from reconciling import Query, World, clerk_world


@pytest.fixture
def world(servers: Callable[[int], Server]) -> Iterator[World]:
    with fresh_database(servers) as database, clerk_world(database) as made:
        yield made


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tenantry", "reconcile", *arguments]


def environment(world: World, **changes: str) -> dict[str, str]:
    return {
        "CLERK_SECRET_KEY": world.settings.secret_key or "",
        "CLERK_API_URL": world.settings.api_url,
        "DATABASE_URL": world.database.dsn(),
        "TENANTRY_CLERK_BUDGET": "100",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    } | changes


def tenantry_reconcile(world: World, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=120, env=environment(world, **changes)
    )


def test_a_backfill_says_what_it_listed_and_a_dry_run_before_it_what_is_missing(world: World) -> None:
    org = world.organization("Acme", world.user("ada"))
    dry = tenantry_reconcile(world, "--dry-run")
    assert dry.returncode == 1
    assert f"organizations {org}  exists: mirror false, Clerk true" in dry.stdout
    assert "likely cause: " in dry.stdout
    assert "Next: tenantry reconcile" in dry.stdout
    done = tenantry_reconcile(world)
    assert done.returncode == 0, done.stderr
    assert "memberships   1 listed, 1 created" in done.stdout
    assert done.stderr == ""  # no bar where nobody looks
    world.check()
    assert tenantry_reconcile(world, "--dry-run").returncode == 0
    assert tenantry_reconcile(world, "--quiet").stdout == ""


def test_json_tells_everything(world: World) -> None:
    world.organization("Acme", world.user("ada"))
    answer = tenantry_reconcile(world, "--json")
    told = json.loads(answer.stdout)
    assert told["agrees"] is True
    assert told["tallies"]["memberships"]["created"] == 1


def test_the_brake_says_how_many_and_what_to_type(world: World) -> None:
    org = world.organization("Acme", world.user("ada"))
    people = world.people(20, org)
    asyncio.run(world.reconcile())
    for person in people[:10]:
        world.leave(org, person)
    world.clock.pass_seconds(10)
    braked = tenantry_reconcile(world, "--quiet")
    assert braked.returncode == 1
    assert "memberships: 10 are gone at Clerk" in braked.stderr
    assert "--allow-mass-end" in braked.stderr
    assert tenantry_reconcile(world, "--allow-mass-end").returncode == 0
    world.check()


def test_what_clerk_does_not_say_clearly_is_not_ended_and_asked_again(world: World) -> None:
    ada = world.user("ada")
    asyncio.run(world.reconcile())
    world.emulator.store.users.delete(ada)
    world.clock.pass_seconds(10)
    of_another = (200, b'{"id": "user_another"}')
    world.faults.answer = lambda path, query, status, body: of_another if path == f"/users/{ada}" else (status, body)
    unclear = tenantry_reconcile(world, "--quiet")
    assert unclear.returncode == 1
    assert "users: 1 are not listed" in unclear.stderr
    assert unclear.stderr.endswith("None of those was ended: run again.\n")
    world.faults.answer = lambda path, query, status, body: (status, body)
    assert tenantry_reconcile(world).returncode == 0
    world.check()


def test_a_run_that_was_killed_goes_on_behind_its_last_page(world: World) -> None:
    org = world.organization("Acme", world.user("ada"))
    world.people(520, org)
    running: list[subprocess.Popen[str]] = []

    def before(path: str, query: Query) -> None:
        if running and path == "/organization_memberships" and query["offset"] == ["499"]:
            running.pop().kill()

    world.faults.before = before
    running.append(subprocess.Popen(command(), env=environment(world), text=True))
    killed = running[0]
    assert killed.wait(60) == -9
    assert world.mirror.one("select count(*) from tenantry.members") == 500
    world.faults.asked.clear()
    answer = tenantry_reconcile(world)
    assert answer.returncode == 0, answer.stderr
    assert "memberships   521 listed, 521 created" in answer.stdout
    assert "with the pages of a stopped run" in answer.stdout
    assert "/users" not in world.faults.paths()
    world.check()


def test_one_organization_is_named_by_its_id(world: World) -> None:
    org = world.organization("Acme", world.user("ada"))
    assert tenantry_reconcile(world, "--org", org).returncode == 0
    unknown = tenantry_reconcile(world, "--org", "org_nobody/../users")
    assert unknown.returncode == 1
    assert "Neither Clerk nor the mirror" in unknown.stderr
    assert "Traceback" not in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "said"),
    [
        ((), {"CLERK_SECRET_KEY": ""}, 2, "Set CLERK_SECRET_KEY"),
        ((), {"CLERK_SECRET_KEY": "sk_test_another"}, 1, "Check CLERK_SECRET_KEY"),
        ((), {"DATABASE_URL": ""}, 2, "Set DATABASE_URL"),
        (("--quick", "--dry-run"), {}, 2, "--quick goes with neither"),
        (("--brake", "7"), {}, 2, "--brake"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    world: World, arguments: tuple[str, ...], changes: dict[str, str], code: int, said: str
) -> None:
    answer = tenantry_reconcile(world, *arguments, **changes)
    assert answer.returncode == code
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "sk_test_another" not in answer.stderr


def test_a_database_without_the_schema_names_the_command_to_type(
    world: World, servers: Callable[[int], Server]
) -> None:
    empty: Database = world.database.server.create()
    answer = tenantry_reconcile(world, "--database-url", empty.dsn())
    world.database.server.drop(empty)
    assert answer.returncode == 1
    assert "tenantry db migrate" in answer.stderr
