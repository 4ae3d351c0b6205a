"""The script for psql ends where the commands do, and each goes on where the other stopped."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from adopt import worlds
from adopt.comparing import state
from adopt.test_arrivals import FOURTH, add_team, naming, organizations_of, sign_up
from adopt.worlds import PACE, Watched, World, personal_tenant
from databases import APP, OWNER, SUPERUSER, Database, Server
from instance import fresh_database
from sql.tenants import read, rows, run
from tenantry.adopt import runner, script
from tenantry.adopt.plan import Decision
from tenantry.adopt.runner import Pace
from tenantry.adopt.step import PHASES, Phase, Step
from tenantry.dev.binaries import find_binaries
from tenantry.errors import AdoptionRefused

SECONDS = 120  # at most, that a script may take
WORLDS = ("publishing", "tracker", "handmade")


def write(world: World, last: Phase = "contract", pace: Pace = PACE, *, differing: bool = False) -> str:
    with world.database.connect(OWNER) as connection:
        return script.write_apply(connection, world.plan, last, last, pace, differing=differing)


def write_undo(world: World, first: Phase = "expand") -> str:
    with world.database.connect(OWNER) as connection:
        return script.write_undo(connection, first, PACE)


def psql(database: Database, text: str, to: str = "", *, login: str = OWNER) -> subprocess.CompletedProcess[str]:
    program = find_binaries(database.server.version).directory / "psql"
    command = [str(program), "-X", "-v", "ON_ERROR_STOP=1", *(["-v", f"to={to}"] if to else []), "-f", "-"]
    return subprocess.run(
        [*command, "--dbname", database.dsn(login)], input=text, capture_output=True, text=True, timeout=SECONDS
    )


def follow(database: Database, text: str, to: str = "") -> str:
    """Runs a script to its end; answers what it printed."""
    done = psql(database, text, to)
    assert done.returncode == 0, done.stderr
    assert all("no privileges " in line for line in done.stderr.splitlines()), done.stderr
    return done.stdout


def record(database: Database) -> dict[str, Any]:
    """What both ways have to write down, which is all but times and how large their batches were."""
    with database.connect(SUPERUSER) as connection:
        steps = "select position, step, state, leaf, rows from tenantry_adopt.steps order by 1"
        return {
            "steps": connection.execute(steps.encode()).fetchall(),
            "moves": connection.execute(b"select plan, known, before, tables from tenantry_adopt.moves").fetchall(),
        }


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, database: Database) -> World:
    made: World = getattr(worlds, request.param)(database)
    return made


@pytest.fixture
def one_world(one_database: Database) -> World:
    return worlds.publishing(one_database)


@pytest.fixture
def twin(world: World) -> Iterator[World]:
    """The same database again."""
    database = world.database.server.create(world.database.name)
    yield World(database, world.plan)
    world.database.server.drop(database)


def test_a_script_ends_each_phase_where_apply_does(world: World, twin: World) -> None:
    text = write(twin)
    for phase in PHASES:
        world.apply(phase)
        follow(twin.database, text, to=phase)
        assert state(twin.database) == state(world.database), phase
        assert record(twin.database) == record(world.database), phase
    assert twin.findings() == []


def test_what_a_script_did_is_undone_by_the_command_and_by_a_script(world: World) -> None:
    before = state(world.database)
    follow(world.database, write(world, "constrain"))
    constrained = state(world.database)
    follow(world.database, write(world, "isolate"))
    follow(world.database, write_undo(world, "isolate"))
    assert state(world.database) == constrained
    world.undo()
    assert state(world.database) == before
    follow(world.database, write(world, "isolate"))
    follow(world.database, write_undo(world))
    assert state(world.database) == before


def test_a_script_that_stops_anywhere_is_gone_on_with(one_world: World) -> None:
    """By itself, by the command, and back again."""
    database = one_world.database
    before = state(database)
    text = write(one_world)
    steps = [found.start() for found in re.finditer(r"^\\echo '\[\d+/", text, re.MULTILINE)]
    for number, cut in enumerate(steps[:: len(steps) // 9]):
        assert psql(database, text[:cut]).returncode in (0, 3)  # psql minds an \if without its end
        assert record(database)["steps"][0][2] == ("done" if number else "pending")
        if number % 3 == 0 and cut < text.index("=== contract"):
            one_world.undo()
            assert state(database) == before
            psql(database, text[:cut])
    one_world.apply("contract")
    assert one_world.findings() == []
    assert "Done." in follow(database, text)  # with nothing left to do


def test_a_script_goes_on_where_the_command_stopped(one_world: World) -> None:
    class Stopped(Exception):
        pass

    class Stopper(Watched):
        def end(self, entry: Any, *, undo: bool) -> None:
            super().end(entry, undo=undo)
            if len(self.done) == 12:
                raise Stopped

    text = write(one_world)
    with pytest.raises(Stopped):
        one_world.apply("contract", Stopper())
    follow(one_world.database, text)
    assert one_world.findings() == []


def test_batches_of_a_script_give_way_and_the_command_takes_up_the_next(servers: Callable[[int], Server]) -> None:
    with fresh_database(servers) as database:
        world = worlds.publishing(database, articles=9_000)
        text = write(world, "backfill", Pace(lock_ms=20, batch_ms=5, patience=1))
        follow(database, text, to="expand")
        with database.connect(APP, autocommit=False) as app:
            app.execute("select from articles where id = 8000 for update")
            stopped = psql(database, text)
            assert stopped.returncode == 3
            assert "lock timeout" in stopped.stderr
            app.rollback()
        with database.connect(OWNER) as owner:
            [(name, page, filled)] = owner.execute(
                "select step ->> 'name', page, rows from tenantry_adopt.steps where state = 'running'"
            ).fetchall()
            assert name == "fill tenant_id of public.articles"
            assert page > 0
            assert read(owner, "select count(*) from articles where tenant_id is not null") == filled > 0
        world.apply("backfill")
        assert world.findings() == []
        with database.connect(OWNER) as owner:
            assert rows(owner, "select rows from tenantry_adopt.steps where step ->> 'name' = %s", name) == [9_000]


def test_a_script_takes_up_what_was_added_to_the_plan_and_gives_the_rows_that_waited_their_tenant(
    database: Database,
) -> None:
    world = worlds.tracker(database)
    add_team(world)
    follow(database, write(world, "constrain"))
    sign_up(database, 4, "new")
    late = naming(world, FOURTH)
    assert [kind for kind, *_ in late.findings(still=False)][-1] == "unnamed"
    text = write(late)
    follow(database, text, to="constrain")
    assert organizations_of(world, "new") == organizations_of(world, "new", "issues") == {"org_four"}
    sign_up(database, 4, "newer")
    assert organizations_of(world, "newer", "issues") == {"org_four"}
    assert late.findings(still=False) == []
    assert late.apply("constrain").done == []
    follow(database, text, to="isolate")
    assert late.findings(still=False) == []
    assert "what is new in the plan" not in write(naming(late, {**FOURTH, "5": "org_five"}))  # nor does it matter now


def test_who_gets_the_rest_may_be_named_to_a_script(database: Database) -> None:
    world = worlds.tracker(database)
    add_team(world)
    follow(database, write(world, "constrain"))
    sign_up(database, 4, "new")
    worlds.mirror_organizations(database, ["org_rest"])
    world = world.with_plan(rows=replace(world.plan.rows, rest="org_rest"))
    follow(database, write(world, "isolate"))
    assert organizations_of(world, "new") == organizations_of(world, "new", "issues") == {"org_rest"}
    assert world.findings(still=False) == []


def test_a_script_that_knows_less_than_the_record_is_to_be_printed_again(database: Database) -> None:
    world = worlds.tracker(database)
    add_team(world)
    world.apply("constrain")
    late = naming(world, FOURTH)
    text = write(late)
    worlds.mirror_organizations(database, ["org_five"])
    naming(late, {**FOURTH, "5": "org_five"}).apply("constrain")
    stopped = psql(database, text)
    assert stopped.returncode == 3
    assert "More has been added to the plan since this script was printed." in stopped.stderr


def test_a_script_waits_for_who_may_not_know_yet_what_was_added(database: Database) -> None:
    world = worlds.tracker(database)
    add_team(world)
    world.apply("constrain")
    late = naming(world, FOURTH)
    with database.connect(APP, autocommit=False) as app:
        app.execute("select from teams")
        stopped = psql(database, write(late, pace=Pace(patience=1)))
        assert stopped.returncode == 3
        assert "Transactions that were open 1s ago are so still" in stopped.stderr
        app.rollback()
    late.apply("isolate")
    assert late.findings(still=False) == []


def test_a_step_of_a_script_waits_for_its_locks_without_holding_the_app_up(one_world: World) -> None:
    text = write(one_world, "expand", Pace(lock_ms=20, patience=60))
    with one_world.database.connect(APP, autocommit=False) as app, one_world.database.connect(APP) as other:
        app.execute("select from articles")
        thread = threading.Thread(target=follow, args=(one_world.database, text))
        thread.start()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            run(other, "set statement_timeout = '2s'", "select count(*) from articles")
        app.rollback()
        thread.join(SECONDS)
    assert {entry[2] for entry in record(one_world.database)["steps"] if entry[1]["phase"] == "expand"} == {"done"}


def test_rows_without_a_tenant_stop_a_script_with_a_sentence(one_world: World) -> None:
    database = one_world.database
    follow(database, write(one_world, "constrain"))
    with database.connect(OWNER) as owner:
        run(
            owner,
            "insert into users (clerk_id, email, username) values ('unknown', 'x@example.com', 'x')",
            "insert into drafts (\"ownerId\") select id from users where username = 'x'",
        )
    stopped = psql(database, write(one_world, "isolate"))
    assert stopped.returncode == 3
    assert "1 rows of public.drafts have no tenant: nobody was found to own them." in stopped.stderr
    with database.connect(OWNER) as owner:
        run(owner, "delete from drafts where tenant_id is null")
    follow(database, write(one_world, "isolate"))


def test_rows_of_another_tenant_stop_a_script_before_isolation_unless_they_may_be_there(one_world: World) -> None:
    database = one_world.database
    follow(database, write(one_world, "constrain"))
    with database.connect(OWNER) as owner:
        run(owner, f"update drafts set tenant_id = '{personal_tenant(database, 'user_2')}' where \"ownerId\" = 1")
    stopped = psql(database, write(one_world, "isolate"))
    assert stopped.returncode == 3
    assert "public.drafts: 4 rows have another tenant than their owner." in stopped.stderr
    assert "--differing" in stopped.stderr
    follow(database, write(one_world, "isolate", differing=True))


def test_ids_that_the_mirror_does_not_know_stop_a_script(database: Database) -> None:
    world = worlds.handmade(database)
    text = write(world)
    follow(database, text, to="constrain")
    with database.connect(OWNER) as owner:
        run(owner, "insert into documents (org_id, title) values ('org_stranger', 'x')")
    stopped = psql(database, text)
    assert stopped.returncode == 3
    assert "public.documents.org_id: 1 ids are not in the mirror." in stopped.stderr


def test_a_partition_that_came_meanwhile_is_left_to_the_command(database: Database) -> None:
    world = worlds.tracker(database)
    text = write(world)
    follow(database, text, to="backfill")
    with database.connect(OWNER) as owner:
        run(owner, "create table events_late partition of events for values from ('2031-01-01') to ('2032-01-01')")
    stopped = psql(database, text)
    assert stopped.returncode == 3
    assert "public.events_late came since this script was printed." in stopped.stderr
    world.apply("constrain")
    assert world.findings(still=False) == []
    assert "events_late came since" in psql(database, write_undo(world)).stderr
    world.undo()


def test_a_script_without_checksums_reads_no_row_for_them(one_world: World) -> None:
    with one_world.database.connect(OWNER) as connection:
        text = script.write_apply(connection, one_world.plan, "expand", "expand", PACE, checksums=False)
    follow(one_world.database, text)
    [(_, _, before, _)] = record(one_world.database)["moves"]
    assert {(told["rows"], told["checksum"]) for told in before.values()} == {(None, None)}


def test_a_script_is_of_one_move_and_of_phases_that_it_has(one_world: World) -> None:
    database = one_world.database
    text = write(one_world, "constrain")
    wrong = psql(database, text, to="contract")
    assert wrong.returncode == 3
    assert "contract is no phase of this script." in wrong.stderr
    other = one_world.with_plan(Decision("public.tags", "shared", mode="write"))
    other.apply("expand")
    stopped = psql(database, text)
    assert stopped.returncode == 3
    assert "Another move has begun here than this script is of." in stopped.stderr


def test_a_script_waits_for_nobody_who_moves_the_same_database(one_world: World) -> None:
    text = write(one_world).replace("lock_timeout = '15s'", "lock_timeout = '100ms'")
    with one_world.database.connect(OWNER) as owner:
        run(owner, f"select pg_advisory_lock({0x7E4A1A})")
        stopped = psql(one_world.database, text)
    assert stopped.returncode == 3
    assert "Another `tenantry adopt` is at work on this database." in stopped.stderr


def test_an_undo_is_printed_of_what_was_done_and_of_no_more(one_world: World) -> None:
    with pytest.raises(AdoptionRefused, match="nothing to undo"):
        write_undo(one_world)
    one_world.apply("expand")
    text = write_undo(one_world)
    one_world.apply("backfill")
    stopped = psql(one_world.database, text)
    assert stopped.returncode == 3
    assert "More has been done since this script was printed." in stopped.stderr
    follow(one_world.database, write(one_world))
    with pytest.raises(AdoptionRefused, match="contract has begun"):
        write_undo(one_world)


def test_names_and_values_are_never_taken_for_sql_or_for_commands_of_psql(database: Database) -> None:
    world = worlds.tracker(database)
    odd = 'public."it\'s \\odd \\! false :to $step$ {leaf}"'
    with database.connect(OWNER) as owner:
        run(
            owner,
            f"create table {odd} (id integer primary key, project_id bigint references projects)",
            f"insert into {odd} select n, 1 from generate_series(1, 9) as n",
            "insert into teams values (4, E'$sql$ \\n\\\\q\\n$json$ ''')",
        )
    world = world.with_plan(Decision(odd, "reference", ("project_id",)))
    twin = World(database.server.create(database.name), world.plan)
    try:
        world.apply("contract")
        follow(twin.database, write(twin))
        assert state(twin.database) == state(world.database)
    finally:
        database.server.drop(twin.database)


def test_an_outline_is_sql_and_comments() -> None:
    step = Step(
        "expand", "name\nof two lines", "public.a", "together", ("select 1",), ("select 2;\nselect 3",), "SHARE"
    )
    assert script.outline(step) == (
        "-- name\\nof two lines [SHARE], about 0 s\nbegin;\nselect 1;\ncommit;\n-- undo: select 2;\n-- undo: select 3;"
    )
    batches = replace(step, how="batches", leaves=("public.a",))
    assert "for pages {first} to {last} of public.a" in script.outline(batches)


def test_a_script_prepares_its_session_as_the_command_does(one_world: World) -> None:
    text = write(one_world)
    for statement in runner.preparations(OWNER):
        assert f"\n{statement};\n" in text
