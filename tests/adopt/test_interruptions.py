"""A move that is broken off anywhere goes on, or back, as if it had not been."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from adopt import worlds
from adopt.comparing import state
from adopt.worlds import PACE, Watched, World
from databases import OWNER, SUPERUSER, Database
from sql.tenants import read
from tenantry.adopt import config, record, runner
from tenantry.adopt.record import Entry
from tenantry.errors import AdoptionRefused


class Killed(BaseException):
    """The process is gone, and its connection with it."""


class Fragile(psycopg.Connection[Any]):
    """A connection that breaks at a statement: after so many more."""

    statements_left: int | None = None

    def execute(self, *arguments: Any, **options: Any) -> Any:
        if self.statements_left is not None:
            if self.statements_left == 0:
                self.pgconn.finish()
                raise Killed
            self.statements_left -= 1
        return super().execute(*arguments, **options)


@dataclass
class Killer(Watched):
    """Breaks each step off at each of its statements in turn, one a run."""

    connection: Fragile | None = None
    reached: dict[int, int] = field(default_factory=dict)

    def begin(self, entry: Entry, total: int, *, undo: bool) -> None:
        assert self.connection is not None
        self.connection.statements_left = self.reached.get(entry.position, 0)
        self.reached[entry.position] = self.connection.statements_left + 1

    def end(self, entry: Entry, *, undo: bool) -> None:
        super().end(entry, undo=undo)
        assert self.connection is not None
        self.connection.statements_left = None


def run_to_the_end(world: World, killer: Killer, *, undo: bool = False) -> int:
    """How often it was killed until nothing was left to do."""
    kills = 0
    while True:
        with Fragile.connect(world.database.dsn(OWNER), autocommit=True) as connection:
            assert isinstance(connection, Fragile)
            killer.connection = connection
            runner.prepare(connection, OWNER)
            try:
                if undo:
                    runner.undo(connection, record.read(connection), "expand", PACE, killer)
                else:
                    runner.apply(connection, record.read(connection), "contract", PACE, killer)
            except Killed:
                kills += 1
                continue
            return kills


class Begun(Exception):
    pass


class Beginner(Watched):
    def begin(self, entry: Entry, total: int, *, undo: bool) -> None:
        raise Begun


def begin(world: World) -> None:
    """Writes the steps down and does none."""
    with pytest.raises(Begun):
        world.apply("contract", Beginner())


@pytest.mark.parametrize("name", ["publishing", "tracker"])
def test_killed_at_every_statement_of_every_step_it_ends_in_the_same(one_database: Database, name: str) -> None:
    world: World = getattr(worlds, name)(one_database)
    begin(world)
    killer = Killer()
    assert run_to_the_end(world, killer) > 3 * len(killer.done) / 2
    assert len(set(killer.done)) == len(killer.done), "no step is done twice"
    assert world.findings() == []


def test_undone_while_it_is_killed_at_every_statement_it_ends_where_it_began(one_database: Database) -> None:
    world = worlds.publishing(one_database)
    before = state(one_database)
    world.apply("isolate")
    assert run_to_the_end(world, Killer(), undo=True) > 50
    world.undo()  # with nothing left, the record goes
    assert state(one_database) == before


@pytest.mark.parametrize("name", ["publishing", "tracker"])
def test_each_step_is_undone_exactly(one_database: Database, name: str) -> None:
    world: World = getattr(worlds, name)(one_database)
    begin(world)
    watched = Watched()
    with one_database.connect(OWNER) as connection:
        runner.prepare(connection, OWNER)
        before = state(one_database)
        for position, entry in enumerate(record.read(connection)):
            if entry.step.phase == "contract":
                break
            runner.apply(connection, [entry], "contract", PACE, watched)
            # A partition's key that has joined its parent's goes with that, and is undone already then.
            if entry.step.undo and not entry.step.name.startswith("join "):
                runner.undo(connection, [record.read(connection)[position]], "expand", PACE, watched)
                assert state(one_database) == before, entry.step.name
                runner.apply(connection, [entry], "contract", PACE, watched)
            before = state(one_database)


def wait_for(happened: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_an_index_that_a_killed_process_left_broken_is_built_again(database: Database, tmp_path: Path) -> None:
    """The process itself is killed, while its CREATE INDEX CONCURRENTLY waits for somebody's transaction."""
    world = worlds.publishing(database)
    world.apply("backfill")
    plan = tmp_path / "adopt.toml"
    plan.write_text(config.write(world.plan, {}), encoding="utf-8")
    command = [sys.executable, "-m", "tenantry", "adopt", "apply", "--file", str(plan)]
    at_work = "select count(*) from pg_stat_activity where query like 'create%%concurrently%%' and datname = %s"
    broken = "select count(*) from pg_index where not indisvalid"
    with database.connect(SUPERUSER, autocommit=False) as other, database.connect(SUPERUSER) as watch:
        other.execute("set transaction isolation level repeatable read")
        other.execute("select 1")  # an index is good when nobody has a snapshot any more that is older
        process = subprocess.Popen(
            [*command, "--database-url", database.dsn(OWNER)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: read(watch, f"{at_work} and wait_event_type = 'Lock'", database.name) == 1)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=10)
        wait_for(lambda: read(watch, f"{at_work} and state = 'active'", database.name) == 0)
        assert read(watch, broken) == 1
        other.rollback()
    world.apply("contract")
    with database.connect(SUPERUSER) as watch:
        assert read(watch, broken) == 0
    assert world.findings() == []


def test_two_moves_at_once_are_one(database: Database) -> None:
    world = worlds.handmade(database)
    with database.connect(OWNER) as first, database.connect(OWNER) as second:
        refused = pytest.raises(AdoptionRefused, match="at work on this database")
        with record.locked(first), refused, record.locked(second, 0.2):
            pass
    world.apply("expand")
