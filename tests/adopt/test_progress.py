"""How far a move is, as somebody else sees it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from adopt import worlds
from adopt.worlds import PACE, Watched, World
from databases import OWNER, Database
from tenantry.adopt import progress
from tenantry.adopt.progress import Batches, Progress
from tenantry.adopt.record import Entry
from tenantry.adopt.runner import Pace

SECONDS = 60  # at most, that a move may take


@pytest.fixture
def world(one_database: Database) -> World:
    return worlds.publishing(one_database, articles=9_000)


def look(world: World, seconds: float = 0.2) -> Progress:
    with world.database.connect(OWNER) as connection:
        return progress.read(connection, seconds)


def test_before_a_move_there_is_nothing_to_say(world: World) -> None:
    assert look(world) == Progress([])
    assert look(world).next is None


def test_while_batches_run_it_is_known_how_fast_and_how_long_still(world: World) -> None:
    thread = threading.Thread(target=world.apply, args=("backfill", None, Pace(batch_ms=1, rest=4)))
    thread.start()
    found: list[Batches] = []
    give_up = time.monotonic() + SECONDS
    while thread.is_alive():
        assert time.monotonic() < give_up
        seen = look(world)
        assert seen.at_work or not thread.is_alive() or seen.next is None or seen.batches is None
        found += [seen.batches] if seen.batches else []
    thread.join(SECONDS)
    busy = [batches for batches in found if batches.rows_per_second > 0]
    assert busy
    assert all(0 < batches.done <= batches.pages for batches in busy)
    assert all(batches.seconds_left is not None and batches.seconds_left >= 0 for batches in busy)
    assert look(world).next is not None  # a step of the next phase
    assert look(world).at_work is False


def test_of_what_was_stopped_it_is_known_where(world: World) -> None:
    class Stopped(Exception):
        pass

    class Stopper(Watched):
        def progress(self, entry: Entry, done: int, total: int) -> None:
            if entry.step.name == "fill tenant_id of public.articles":
                self.seen: Any = look(world, 0)
                raise Stopped

    stopper = Stopper()
    with pytest.raises(Stopped):
        world.apply("backfill", stopper, PACE)
    assert stopper.seen.at_work
    assert stopper.seen.batches.seconds_left is None  # nothing happened between the looks
    found = look(world)
    assert not found.at_work
    assert found.next is not None
    assert (found.next.step.name, found.next.state) == ("fill tenant_id of public.articles", "running")
    assert found.batches is not None
    assert 0 < found.batches.done < found.batches.pages
