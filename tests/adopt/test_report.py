"""Report-only mode: what isolation would refuse is counted, and nothing is refused, changed or left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from adopt import worlds
from adopt.comparing import state
from adopt.test_load import Load, running
from adopt.worlds import World, personal_tenant
from databases import APP, OWNER, Database
from sql.tenants import read, rows, run
from tenantry.adopt import config, move, report
from tenantry.adopt.report import Found, Report
from tenantry.errors import AdoptionRefused

LIMIT = 60  # seconds, at most, that anything here may take


@pytest.fixture
def world(database: Database) -> World:
    made = worlds.publishing(database)
    made.apply("constrain")
    return made


def observe(
    world: World, act: Callable[[], None], *, sample: float = 1, owner: bool = False, slow: bool = True
) -> Report:
    """What is found of what `act` does, on another thread, while it is watched."""
    done: list[Report] = []
    ready = threading.Event()
    failures: list[BaseException] = []

    def watch() -> None:
        with world.database.connect(OWNER) as connection, move.as_owner(connection, world.plan) as schema:
            try:
                told = report.observe(
                    connection, world.plan, schema, seconds=3, sample=sample, owner=owner, slow=slow, begun=ready.set
                )
                done.append(told)
            except AdoptionRefused as error:
                failures.append(error)
                ready.set()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert ready.wait(LIMIT)
    act()
    thread.join(LIMIT)
    if failures:
        raise failures[0]
    return done[0]


def of(told: Report, kind: str, table: str = "public.articles") -> list[Found]:
    return [found for found in told.found if (found.kind, found.table) == (kind, table)]


@contextmanager
def within(world: World, user: int) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of the app with the tenant of a user."""
    with world.database.connect(APP) as app, app.transaction():
        app.execute(
            "select tenantry.set_tenant_by_id_v1(%s, 'a test')", [personal_tenant(world.database, f"user_{user}")]
        )
        yield app


def test_a_query_without_a_tenant_is_counted_once_a_transaction_with_its_text_but_no_data(world: World) -> None:
    def act() -> None:
        with world.database.connect(APP) as app:
            for number in range(3):
                app.execute(f"select title from articles where slug = 'slug-{number + 1}' /* secret */".encode())
                app.execute("select title from articles where id = %s", [number + 1])

    told = observe(world, act)
    assert [(found.query, found.transactions) for found in of(told, "no_tenant")] == [
        ("select title from articles where id = $1", 3),
        ("select title from articles where slug = ? ?", 3),
    ]
    assert {found.kind for found in told.found} == {"no_tenant"}


def test_rows_of_another_tenant_are_counted_where_they_are_read_and_written(world: World) -> None:
    def act() -> None:
        with within(world, 1) as app:
            assert len(rows(app, "select id from articles")) == 60
            app.execute("select id from articles where author_id = 1").fetchall()
            app.execute("update articles set title = title where author_id = 2")

    told = observe(world, act)
    listing = {found.query: found for found in of(told, "read")}
    assert listing["select id from articles"].transactions == 1
    assert 32 <= listing["select id from articles"].rows <= 50  # of 60, 10 are the tenant's own
    assert "select id from articles where author_id = ?" not in listing
    (written,) = of(told, "write")
    assert (written.query, written.rows) == ("update articles set title = title where author_id = ?", 8)
    assert of(told, "no_tenant") == []


def test_of_an_app_that_sets_its_tenant_nothing_is_found_but_where_it_still_reaches_across(world: World) -> None:
    """Its users delete their newest comment, which may be below somebody else's article: of that one's tenant."""

    def act() -> None:
        tenants = {n: personal_tenant(world.database, f"user_{n}") for n in range(1, 7)}
        load = Load(world.database, tenants)
        with running(load):
            time.sleep(1)
        assert load.failures == []
        assert len(load.latencies) > 20

    (found,) = observe(world, act).found
    assert (found.kind, found.table, found.query) == (
        "read",
        "public.comments",
        "delete from comments where id = (select max(id) from comments where author_id = $1)",
    )


def test_the_unmodified_app_goes_on_and_each_of_its_queries_is_found(world: World) -> None:
    load = Load(world.database)

    def act() -> None:
        with running(load):
            time.sleep(2)

    told = observe(world, act)
    assert load.failures == []
    assert {found.kind for found in told.found} == {"no_tenant"}
    assert {found.table for found in told.found} == {"public.articles", "public.comments"}
    texts = " ".join(found.query for found in told.found)
    for kind in ("select max(id)", "insert into articles", "update articles", "delete from comments"):
        assert kind in texts


def test_read_only_transactions_are_counted_and_rolled_back_ones_are_not(world: World) -> None:
    def act() -> None:
        with world.database.connect(APP, autocommit=False) as app:
            app.read_only = True
            app.execute("select 1 from articles")
            app.commit()
            app.execute("select 2 from articles")
            app.rollback()

    assert [found.transactions for found in of(observe(world, act), "no_tenant")] == [1]


def test_who_works_across_tenants_on_purpose_is_not_counted(world: World) -> None:
    def act() -> None:
        with world.database.connect(APP) as app, app.transaction():
            app.execute("select tenantry.bypass_tenant_v1('a test')")
            assert len(rows(app, "select id from articles")) == 60

    assert observe(world, act).found == ()


def test_the_owner_is_seen_on_request(world: World) -> None:
    def act() -> None:
        with world.database.connect(OWNER) as owner:
            run(owner, "select id from articles")

    assert of(observe(world, act), "no_tenant") == []
    assert len(of(observe(world, act, owner=True), "no_tenant")) == 1


def test_a_sample_looks_at_some_transactions_and_none_of_the_others(world: World) -> None:
    def act() -> None:
        with world.database.connect(APP) as app:
            for _ in range(400):
                app.execute("select id from articles limit 1")

    (found,) = of(observe(world, act, sample=0.25), "no_tenant")
    assert 40 <= found.transactions <= 160  # one in 10**10 runs is outside


def test_postgresqls_own_id_of_a_query_is_told_where_it_has_one(world: World) -> None:
    def act() -> None:
        with world.database.connect(APP) as app:
            app.execute("select id from articles")

    (without,) = of(observe(world, act), "no_tenant")
    with world.database.connect("postgres") as admin:
        admin.execute(f"alter database {world.database.name} set compute_query_id = on".encode())
    (found,) = of(observe(world, act), "no_tenant")
    assert (without.query_id is None, found.query_id is None) == (True, False)


def test_it_leaves_nothing_behind(world: World) -> None:
    before = state(world.database)
    observe(world, lambda: None)
    assert state(world.database) == before
    observe(world, lambda: None, owner=True)
    assert state(world.database) == before


def test_a_killed_watcher_stops_counting_is_cleared_by_off_and_hinders_no_isolation(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "adopt.toml").write_text(config.write(world.plan, {}), encoding="utf-8")
    before = state(world.database)
    _kill_watcher(world, tmp_path)
    assert state(world.database) != before
    with world.database.connect(APP) as app:
        assert len(rows(app, "select id from articles")) == 60
    with pytest.raises(AdoptionRefused, match="There is no table to watch") as refused:
        observe(world, lambda: None)
    assert "run it with --off first" in str(refused.value)
    off = subprocess.run(
        [*_COMMAND, "--off"], cwd=tmp_path, env=_environment(world), capture_output=True, text=True, timeout=LIMIT
    )
    assert "public.articles" in off.stdout, off.stderr
    assert state(world.database) == before
    _kill_watcher(world, tmp_path)
    world.apply("contract")
    assert world.findings() == []
    with world.database.connect(APP) as app, pytest.raises(psycopg.Error):
        app.execute("select id from articles")
    with world.database.connect(OWNER) as owner:
        assert rows(owner, "select polname::text from pg_policy where polname = 'tenantry_report'") == []


def test_undo_takes_away_what_a_killed_watcher_left(database: Database, tmp_path: Path) -> None:
    world = worlds.publishing(database)
    before = state(database)
    world.apply("constrain")
    (tmp_path / "adopt.toml").write_text(config.write(world.plan, {}), encoding="utf-8")
    _kill_watcher(world, tmp_path)
    world.undo()
    assert state(database) == before


def test_row_level_security_that_somebody_sets_up_meanwhile_stays(world: World) -> None:
    def act() -> None:
        with world.database.connect(OWNER) as owner:
            run(owner, "create policy theirs on comments using (id > 100)")

    observe(world, act)
    with world.database.connect(APP) as app:
        assert read(app, "select min(id) from comments") == 101


def test_what_has_no_tenant_yet_or_is_isolated_already_is_told(database: Database) -> None:
    world = worlds.publishing(database)
    with pytest.raises(AdoptionRefused) as refused:
        observe(world, lambda: None)
    assert "- public.articles: its rows have no tenant yet" in str(refused.value)
    world.apply("isolate")
    with pytest.raises(AdoptionRefused) as refused:
        observe(world, lambda: None)
    assert "- public.articles: it is isolated already" in str(refused.value)


def test_a_table_with_an_index_that_row_level_security_hides_is_watched_on_request_alone(world: World) -> None:
    told = observe(world, lambda: None, slow=False)
    assert told.unseen == {
        "public.articles": "meanwhile queries would not find its index articles_by_title: "
        "--slow watches it all the same"
    }
    assert "public.comments" in told.tables


def test_rows_that_nobody_owns_yet_are_told(database: Database) -> None:
    world = worlds.publishing(database)
    world.apply("expand")

    def act() -> None:
        with within(world, 1) as app:
            app.execute("select id from drafts").fetchall()

    with database.connect(OWNER) as owner:
        owner.execute(b"grant select on drafts to tenantry_tenant; grant usage on schema public to tenantry_tenant")
    assert [found.rows >= 16 for found in of(observe(world, act), "unowned", "public.drafts")] == [True]


def test_the_command_prints_what_was_found(world: World, tmp_path: Path) -> None:
    (tmp_path / "adopt.toml").write_text(config.write(world.plan, {}), encoding="utf-8")
    with _watcher(world, tmp_path, "--for", "3", "--sample", "1", "--slow") as watcher:
        with world.database.connect(APP) as app:
            app.execute("select id from articles")
        out, _ = watcher.communicate(timeout=LIMIT)
    assert watcher.returncode == 1
    assert "public.articles  without a tenant: 1 transactions\n  select id from articles" in out
    assert "1 findings in 3 s, of every transaction on" in out


_COMMAND = [sys.executable, "-m", "tenantry", "adopt", "report"]


def _environment(world: World) -> dict[str, str]:
    return {
        "DATABASE_URL": world.database.dsn(OWNER),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }


@contextmanager
def _watcher(world: World, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command, once it watches."""
    command = subprocess.Popen(
        [*_COMMAND, *arguments],
        cwd=folder,
        env=_environment(world),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + LIMIT
        policies = "select count(*) from pg_policy where polname = 'tenantry_report'"
        with world.database.connect(OWNER) as owner:
            while read(owner, policies) < 5 and time.monotonic() < deadline and command.poll() is None:
                time.sleep(0.05)
        yield command
    finally:
        command.kill()
        command.communicate(timeout=LIMIT)


def _kill_watcher(world: World, folder: Path) -> None:
    with _watcher(world, folder, "--for", "50", "--slow"):
        pass
