"""Rows of before get their tenant in batches that are short whatever happens, one of which the app hardly feels."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adopt import worlds
from adopt.worlds import PACE, Watched, World
from databases import OWNER, SUPERUSER, Database
from sql.tenants import read, rows, run
from tenantry.adopt import runner
from tenantry.adopt.plan import Decision
from tenantry.adopt.record import Entry
from tenantry.errors import AdoptionRefused

FILL = "fill tenant_id of public.articles"
SECONDS = 60


@dataclass
class Pages(Watched):
    """How far the batches of a step were after each."""

    seen: list[int] = field(default_factory=list)

    def progress(self, entry: Entry, done: int, total: int) -> None:
        if entry.step.name == FILL:
            self.seen.append(done)


def slow_world(database: Database, seconds_a_row: float, articles: int) -> World:
    """Articles have a trigger that takes its time for each row, and is to fire."""
    worlds.publishing(database, articles=articles)
    with database.connect(OWNER) as owner:
        run(
            owner,
            "create function wait() returns trigger language plpgsql as"
            f" $$ begin perform pg_sleep({seconds_a_row}); return new; end $$",
            "create trigger waits before update on articles for each row execute function wait()",
        )
    fires = Decision("public.articles", "owner", ("author_id",), keep=("articles_slug_key",), triggers="fire")
    return World(database, worlds.publishing_plan(worlds.schema_of(database))).with_plan(fires)


def held(database: Database) -> float:
    """Of the longest batch of the articles, in ms."""
    with database.connect(OWNER) as owner:
        query = "select held_ms from tenantry_adopt.steps where step ->> 'name' = %s"
        return float(str(read(owner, query, FILL)))


def test_a_batch_that_takes_too_long_is_broken_off_and_a_page_alone_is_let_finish(database: Database) -> None:
    world = slow_world(database, 0.002, articles=400)
    watched = Pages()
    world.apply("backfill", watched, replace(PACE, batch_ms=5))
    assert len(watched.seen) > 1
    assert watched.seen == list(range(1, len(watched.seen) + 1)), "a page at a time"
    assert held(database) > 10, "which takes longer than a batch may"
    world.apply("constrain")
    assert world.findings() == []


@contextmanager
def cancelling(database: Database) -> Iterator[list[bool]]:
    """Somebody who cancels the first batch that they see at work."""
    cancelled: list[bool] = []

    def look() -> None:
        query = (
            "select pg_cancel_backend(pid) from pg_stat_activity"
            " where datname = current_database() and wait_event = 'PgSleep' and query like 'update%%articles%%'"
        )
        give_up = time.monotonic() + SECONDS
        with database.connect(SUPERUSER) as superuser:
            while not cancelled and time.monotonic() < give_up:
                cancelled.extend(bool(each) for each in rows(superuser, query))
                time.sleep(0.01)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield cancelled
    thread.join(timeout=SECONDS)
    assert not thread.is_alive()


def test_a_batch_that_somebody_cancels_ends_the_run_and_the_next_goes_on(database: Database) -> None:
    world = slow_world(database, 0.01, articles=400)
    with cancelling(database) as cancelled, pytest.raises(AdoptionRefused, match="canceling statement due to user"):
        world.apply("backfill", pace=replace(PACE, batch_ms=60_000))
    assert cancelled == [True]
    with database.connect(OWNER) as owner:
        run(owner, "drop trigger waits on articles")
    world.apply("constrain")
    assert world.findings() == []


def test_no_step_waits_for_the_disk_and_the_end_of_all_does(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(SUPERUSER) as superuser:
        run(superuser, f"alter role {OWNER} in database {database.name} set synchronous_commit = on")
    world.apply("expand")
    see = "for each row execute function tenantry_adopt.see()"
    with database.connect(OWNER) as owner:
        run(
            owner,
            "create table tenantry_adopt.seen (what text, setting text)",
            "create function tenantry_adopt.see() returns trigger language plpgsql as $$ begin"
            " insert into tenantry_adopt.seen values (tg_table_name, current_setting('synchronous_commit'));"
            " return null; end $$",
            *(f"create trigger sees after update on tenantry_adopt.{table} {see}" for table in ("steps", "moves")),
        )
        world.apply("backfill")
        found = "select distinct what || ' ' || setting from tenantry_adopt.seen order by 1"
        assert rows(owner, found) == ["moves on", "steps off"]


@given(st.integers(1, 8192), st.floats(0, 10, allow_nan=False), st.integers(1, 1000))
def test_the_next_batch_has_at_most_half_as_many_pages_more_and_never_none(
    pages: int, seconds: float, wanted_ms: int
) -> None:
    size = runner._resize(pages, seconds, wanted_ms)
    assert 1 <= size <= min(8192, math.ceil(pages * 1.5))
    if seconds * 1000 > 2 * wanted_ms and pages > 1:
        assert size < pages


@given(st.integers(1, 100))
def test_batches_grow_to_what_they_should_take_from_any_size(milliseconds_a_page: int) -> None:
    size = 1
    for _ in range(30):
        size = runner._resize(size, size * milliseconds_a_page / 1000, 400)
    assert 0.5 <= size * milliseconds_a_page / 400 <= 1.5
