"""A database that changes while its tables are moved: names, columns, partitions, new tables and keys, other logins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from adopt import worlds
from adopt.comparing import state
from adopt.worlds import PACE, Watched, World, personal_tenant
from databases import APP, OWNER, SUPERUSER, Database, Server
from instance import fresh_database
from sql.tenants import findings, read, rows, run
from tenantry.adopt import move, record
from tenantry.adopt.record import Entry
from tenantry.adopt.step import Phase
from tenantry.errors import AdoptionRefused


def sql(database: Database, *statements: str) -> None:
    with database.connect(OWNER) as owner:
        run(owner, *statements)


def traces(before: dict[str, Any], database: Database) -> list[str]:
    """What of a move is left in the database."""
    after = state(database)
    return [
        line
        for what in ("columns", "constraints", "indexes", "triggers", "policies", "functions", "schemas", "registry")
        for line in after[what]
        if line not in before[what] and "tenant" in line
    ] + [line for line in after["relations"] if "True" in line.partition(", [")[0] and line not in before["relations"]]


@contextmanager
def refused(*sentences: str) -> Iterator[None]:
    with pytest.raises(AdoptionRefused) as caught:
        yield
    for sentence in sentences:
        assert sentence in str(caught.value)


@dataclass
class Meanwhile(Watched):
    """Does something to the database just before a step."""

    step: str = ""
    do: Callable[[], None] = lambda: None
    did: bool = False

    def begin(self, entry: Entry, total: int, *, undo: bool) -> None:
        if not undo and entry.step.name.startswith(self.step) and not self.did:
            self.did = True
            self.do()


@pytest.fixture
def tracker(servers: Callable[[int], Server]) -> Iterator[World]:
    """Of one version; its table of events is partitioned."""
    with fresh_database(servers) as database:
        yield worlds.tracker(database)


@pytest.fixture
def publishing(servers: Callable[[int], Server]) -> Iterator[World]:
    with fresh_database(servers) as database:
        yield worlds.publishing(database)


# Names


@pytest.mark.parametrize(
    ("renamed", "told", "back"),
    [
        (
            ["alter table drafts rename to notes"],
            "public.drafts is called public.notes now.",
            "alter table public.notes rename to drafts;",
        ),
        (
            ['create schema "Old"', 'alter table drafts set schema "Old"', 'alter table "Old".drafts rename to "D"'],
            'public.drafts is called "Old"."D" now.',
            'alter table "Old"."D" rename to drafts; alter table "Old".drafts set schema public;',
        ),
    ],
)
def test_a_renamed_table_is_told_with_the_way_back(publishing: World, renamed: list[str], told: str, back: str) -> None:
    database = publishing.database
    before = state(database)
    publishing.apply("backfill")
    sql(database, *renamed)
    changed = state(database)
    for act in (publishing.apply, publishing.undo, publishing.findings):
        with refused(f"{told} Run: {back}"):
            act()
        assert state(database) == changed
    sql(database, *back.split("; "), 'drop schema if exists "Old"')
    publishing.apply("constrain")
    assert publishing.findings() == []
    publishing.undo()
    assert state(database) == before


def test_a_renamed_column_that_steps_name_is_told_and_does_not_hinder_an_undo(publishing: World) -> None:
    database = publishing.database
    before = state(database)
    publishing.apply("expand")
    sql(database, "alter table comments rename article_id to about")
    renamed = state(database)
    mend = "alter table public.comments rename column about to article_id;"
    for act in (publishing.apply, publishing.findings):
        with refused(f"its column article_id is called about now. Run: {mend}"):
            act()
        assert state(database) == renamed
    sql(database, mend)
    publishing.apply("constrain")
    sql(database, "alter table comments rename article_id to about")
    publishing.undo()
    assert traces(before, database) == []


def test_a_column_that_no_step_names_may_be_renamed_or_dropped(publishing: World) -> None:
    database = publishing.database
    publishing.apply("backfill")
    sql(database, "alter table comments rename body to words", "alter table users drop bio")
    publishing.apply("constrain")
    with database.connect(OWNER) as owner:
        report = move.check(owner, publishing.plan, still=True)
    assert report.clean
    assert {count.table: count.same for count in report.counts}["public.comments"]
    assert report.notes == ("public.users: bio was dropped: whether its other columns changed, nobody can say.",)
    publishing.apply("contract")


def test_a_dropped_column_that_steps_name_is_told_and_everything_else_undone(publishing: World) -> None:
    before = state(publishing.database)
    publishing.apply("constrain")
    sql(publishing.database, 'alter table drafts drop "ownerId" cascade')
    with refused('public.drafts has no column "ownerId" any more'):
        publishing.apply("isolate")
    publishing.undo()
    assert traces(before, publishing.database) == []


def test_a_table_that_was_made_again_is_another_one(publishing: World) -> None:
    database = publishing.database
    before = state(database)
    publishing.apply("backfill")
    sql(database, "drop table drafts", "create table drafts (id integer primary key, tenant_id uuid)")
    with refused("public.drafts is not in the database any more"):
        publishing.apply()
    publishing.undo()
    (left,) = traces(before, database)
    assert left.startswith("('drafts', 'tenant_id'")  # which is the app's


def test_a_rename_in_the_middle_of_a_run_is_told_too(publishing: World) -> None:
    rename = Meanwhile(step="build index", do=lambda: sql(publishing.database, "alter table drafts rename to notes"))
    with refused("alter table public.notes rename to drafts;"):
        publishing.apply("constrain", rename)
    sql(publishing.database, "alter table notes rename to drafts")
    publishing.apply("contract")
    assert publishing.findings() == []


def test_what_was_dropped_beside_the_tables_does_not_hinder_an_undo(publishing: World) -> None:
    """A view, a sequence, and a login with its rights."""
    database = publishing.database
    before = state(database)
    login = f"former_{database.name}"
    with database.connect(SUPERUSER) as superuser:
        run(superuser, f"create role {login}", f"grant select on drafts to {login}")
        try:
            publishing.apply("isolate")
            run(superuser, f"drop owned by {login}", "drop view published", "alter table tags alter id drop default")
            run(superuser, "drop sequence tags_id_seq")
        finally:
            run(superuser, f"drop owned by {login}", f"drop role {login}")
    publishing.undo()
    assert traces(before, database) == []


# Partitions

CHANGES = {
    "dropped": ["drop table events_2025"],
    "detached": ["alter table events detach partition events_2025"],
}


@pytest.mark.parametrize("phase", ["expand", "backfill", "constrain", "isolate"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_partition_that_goes_is_left_out(tracker: World, change: str, phase: Phase) -> None:
    before = state(tracker.database)
    tracker.apply(phase)
    sql(tracker.database, *CHANGES[change])
    tracker.undo()
    assert traces(before, tracker.database) == []


@pytest.mark.parametrize("phase", ["expand", "backfill", "constrain", "isolate"])
def test_a_move_goes_on_without_the_partition_that_went(tracker: World, phase: Phase) -> None:
    tracker.apply(phase)
    sql(tracker.database, *CHANGES["detached"], *CHANGES["dropped"])
    tracker.apply("contract")
    assert tracker.findings(still=False) == []
    assert whole(tracker.database)


@pytest.mark.parametrize(
    "step", ["build index", "attach index", "complete index", "validate events_tenant_id_fkey of "]
)
def test_a_partition_may_go_in_the_middle_of_a_run(tracker: World, step: str) -> None:
    tables = ("public.events_2026", "events_2026", "")

    class Dropping(Meanwhile):
        def begin(self, entry: Entry, total: int, *, undo: bool) -> None:
            if any(word in entry.step.name or word in entry.step.table for word in tables[:2]) or "complete" in step:
                super().begin(entry, total, undo=undo)

    dropping = Dropping(step=step, do=lambda: sql(tracker.database, "drop table events_2026"))
    tracker.apply("contract", dropping)
    assert dropping.did
    assert tracker.findings(still=False) == []
    assert whole(tracker.database)


def test_a_partition_may_go_between_two_batches(tracker: World) -> None:
    @dataclass
    class Dropping(Watched):
        did: bool = False

        def progress(self, entry: Entry, done: int, total: int) -> None:
            if entry.step.table == "public.events" and not self.did:
                self.did = True
                sql(tracker.database, "drop table events_2026")

    tracker.apply("backfill", Dropping())
    tracker.apply("contract")
    assert tracker.findings(still=False) == []


NEW = (
    "create table events_2027 (like events including defaults)",
    "insert into events_2027 (id, project_id, at) select id + 1000, id, '2027-02-02' from projects",
)
ATTACH = "alter table events attach partition events_2027 for values from ('2027-01-01') to ('2028-01-01')"


@pytest.mark.parametrize("phase", ["expand", "backfill", "constrain", "isolate"])
def test_a_partition_that_comes_late_is_keyed_and_isolated_as_the_others(tracker: World, phase: Phase) -> None:
    database = tracker.database
    tracker.apply(phase)
    with database.connect(SUPERUSER) as superuser:
        empty = "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01')"
        run(superuser, empty, f"alter table events_2027 owner to {OWNER}")
        if phase != "isolate":
            run(superuser, "insert into events (project_id, at) select id, '2027-02-02' from projects")
    tracker.apply("contract")
    assert tracker.findings(still=False) == []
    assert whole(database)
    same(database, "events_2026", "events_2027")


@pytest.mark.parametrize("phase", ["expand", "backfill"])
def test_a_full_table_that_is_attached_late_gets_its_tenants_too(tracker: World, phase: Phase) -> None:
    tracker.apply(phase)
    sql(tracker.database, *NEW, ATTACH)
    tracker.apply("contract")
    assert tracker.findings(still=False) == []
    assert whole(tracker.database)
    same(tracker.database, "events_2026", "events_2027")


@pytest.mark.parametrize("phase", ["backfill", "constrain", "isolate"])
def test_a_partition_that_comes_late_goes_back_with_the_others(tracker: World, phase: Phase) -> None:
    database = tracker.database
    before = state(database)
    tracker.apply("expand")
    sql(database, "create table events_2027 partition of events for values from ('2027-01-01') to ('2028-01-01')")
    tracker.apply(phase)
    sql(database, "create table events_2028 partition of events for values from ('2028-01-01') to ('2029-01-01')")
    tracker.undo()
    assert traces(before, database) == []


@pytest.mark.parametrize("phase", ["backfill", "constrain"])
def test_a_partition_that_is_made_again_is_a_new_one(tracker: World, phase: Phase) -> None:
    database = tracker.database
    before = state(database)
    tracker.apply(phase)
    bounds = "for values from ('2025-01-01') to ('2026-01-01')"
    sql(
        database,
        "drop table events_2025",
        f"create table events_2025 partition of events {bounds}",
        "insert into events (project_id, at) select id, '2025-02-02' from projects",
    )
    tracker.apply("isolate")
    assert tracker.findings(still=False) == []
    assert whole(database)
    same(database, "events_2026", "events_2025")
    tracker.undo()
    assert traces(before, database) == []


def test_a_detached_partition_is_a_table_that_somebody_has_to_decide_on(tracker: World) -> None:
    tracker.apply("constrain")
    sql(tracker.database, *CHANGES["detached"])
    (told,) = news(tracker)
    with refused("public.events_2025 is no partition of public.events any more."):
        tracker.apply("isolate")
    sql(tracker.database, *recipe(told)[1:])
    tracker.apply("contract")
    assert tracker.findings(still=False) == []
    with tracker.database.connect(OWNER) as owner:
        assert read(owner, "select mode from tenantry.table_isolation where relation = 'events_2025'::regclass")


def test_a_renamed_partition_is_told(tracker: World) -> None:
    tracker.apply("backfill")
    sql(tracker.database, "alter table events_2025 rename to old_events")
    told = "public.events_2025, a partition of public.events, is called public.old_events now."
    with refused(told):
        tracker.apply()
    with refused("alter table public.old_events rename to events_2025;"):
        tracker.undo()


def whole(database: Database) -> bool:
    """Whether every index is valid, and every foreign key validated."""
    with database.connect(SUPERUSER) as superuser:
        broken = rows(superuser, "select indexrelid::regclass::text from pg_index where not indisvalid")
        doubtful = rows(superuser, "select conname::text from pg_constraint where contype = 'f' and not convalidated")
    return not broken + doubtful


def same(database: Database, one: str, other: str) -> None:
    """Two partitions with the same keys, and row level security."""

    def shape(table: str) -> list[object]:
        with database.connect(SUPERUSER) as superuser:
            return [
                sorted(superuser.execute(query, [table]).fetchall())
                for query in (
                    "select pg_get_constraintdef(oid), convalidated from pg_constraint"
                    " where conrelid = %s::regclass and contype <> 'n'",
                    "select split_part(pg_get_indexdef(indexrelid), ' USING ', 2), indisunique from pg_index"
                    " where indrelid = %s::regclass",
                    "select attname, attnotnull from pg_attribute where attrelid = %s::regclass and attnum > 0",
                    "select relrowsecurity, relforcerowsecurity from pg_class where oid = %s::regclass",
                    "select polname from pg_policy where polrelid = %s::regclass",
                    "select mode from tenantry.table_isolation where relation = %s::regclass",
                )
            ]

    assert shape(other) == shape(one)


# What is new


def news(world: World) -> list[str]:
    with world.database.connect(OWNER) as owner:
        return move.list_news(owner)


def recipe(sentence: str) -> list[str]:
    """The statements in a sentence."""
    return [line.strip() for line in sentence.splitlines() if line.strip().endswith(";")]


def test_a_new_table_stops_isolation_until_somebody_says_whose_it_is(publishing: World) -> None:
    database = publishing.database
    publishing.apply("constrain")
    assert news(publishing) == []
    sql(
        database,
        "create table likes (id bigserial primary key, article_id bigint references articles on delete cascade)",
        "insert into likes (article_id) select id from articles",
        "create table wishes (id bigserial primary key, user_id bigint not null references users)",
        "insert into wishes (user_id) select id from users",
        "create table colors (name text primary key)",
    )
    told = news(publishing)
    assert [sentence.split(" is new")[0] for sentence in told] == ["public.colors", "public.likes", "public.wishes"]
    with refused("public.likes is new"):
        publishing.apply("isolate")
    with database.connect(OWNER) as owner:
        run(owner, recipe(told[0])[0], *recipe(told[1])[1:], *recipe(told[2])[1:])
    assert news(publishing) == []
    publishing.apply("contract")
    assert publishing.findings(still=False) == []
    tenant = personal_tenant(database, "user_2")
    with database.connect(APP) as app, app.transaction():
        app.execute("select tenantry.set_tenant_by_id_v1(%s, 'a test')", [tenant])
        assert read(app, "select count(*) from likes") == 10
        assert read(app, "select count(*) from wishes") == 1
        assert read(app, "select count(*) from colors") == 0
    with database.connect(OWNER) as owner:
        assert {table for code, table, _ in findings(owner) if code == "TC11"} <= {"tags"}


def test_a_new_foreign_key_stops_isolation_until_the_tenant_is_in_it(publishing: World) -> None:
    database = publishing.database
    publishing.apply("constrain")
    sql(
        database,
        "alter table drafts add article_id bigint",
        "alter table drafts add constraint published foreign key (article_id) references articles on delete set null",
    )
    (told,) = news(publishing)
    assert told.startswith("the foreign key published of public.drafts is new, and may lead to another tenant's row")
    with refused("the foreign key published of public.drafts is new"):
        publishing.apply("isolate")
    sql(database, *recipe(told))
    assert news(publishing) == []
    publishing.apply("contract")
    assert publishing.findings(still=False) == []
    with database.connect(SUPERUSER) as superuser:
        definition = read(superuser, "select pg_get_constraintdef(oid) from pg_constraint where conname = 'published'")
    assert definition == (
        "FOREIGN KEY (tenant_id, article_id) REFERENCES articles(tenant_id, id) ON DELETE SET NULL (article_id)"
    )


def test_a_key_that_needs_the_tenant_is_told_before_anything_is_undone(publishing: World) -> None:
    database = publishing.database
    before = state(database)
    publishing.apply("constrain")
    sql(
        database,
        "create table likes (id bigserial primary key, article_id bigint references articles)",
        "insert into likes (article_id) select id from articles",
    )
    sql(database, *recipe(news(publishing)[0])[1:])
    with_likes = state(database)
    drop = "alter table public.likes drop constraint likes_article_id_fkey;"
    with refused(drop):
        publishing.undo()
    assert state(database) == with_likes
    sql(database, drop)
    publishing.undo()
    assert {line for line in traces(before, database) if "likes" not in line} == set()


def test_a_tenants_column_that_somebody_drops_or_renames_is_told(publishing: World) -> None:
    publishing.apply("backfill")
    sql(publishing.database, "alter table drafts rename tenant_id to tenant")
    with refused("public.drafts has no column tenant_id any more, which the move gave it"):
        publishing.apply()
    sql(publishing.database, "alter table drafts rename tenant to tenant_id")
    publishing.apply("isolate")


def test_a_new_unique_key_is_told_and_is_nobodys_business(publishing: World) -> None:
    publishing.apply("constrain")
    sql(publishing.database, "alter table articles add constraint one_title unique (title)")
    (told,) = news(publishing)
    assert told.startswith("the unique key one_title of public.articles is new, and holds across tenants")
    publishing.apply("isolate")
    publishing.apply("contract")
    assert news(publishing) == []


# Two at once


def test_who_waits_for_another_move_is_in_nobodys_way(database: Database) -> None:
    """CREATE INDEX CONCURRENTLY waits for every snapshot that is older than it."""
    sql(database, "create table big (id integer)")
    done = threading.Event()

    def wait() -> None:
        with database.connect(OWNER) as second, record.locked(second, 60):
            done.set()

    waiting = threading.Thread(target=wait, daemon=True)
    asks = "select count(*) from pg_stat_activity where query ~ '^select pg_.*advisory_lock' and datname = %s"
    with database.connect(OWNER) as first, database.connect(SUPERUSER) as watch:
        with record.locked(first):
            waiting.start()
            give_up = time.monotonic() + 30
            while read(watch, f"{asks} and pid <> {first.info.backend_pid}", database.name) == 0:
                assert time.monotonic() < give_up
                time.sleep(0.02)
            run(first, "set statement_timeout = '30s'", "create index concurrently on big (id)")
            assert not done.is_set()
        assert done.wait(30)
    waiting.join(30)


# Checksums


def test_checksums_are_read_in_pieces_that_nobody_waits_for(publishing: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from tenantry.adopt import verify

    whole_sums = _sums(publishing)
    monkeypatch.setattr(verify, "PAGES", 1)
    told: list[tuple[str, int, int]] = []
    with publishing.database.connect(OWNER) as owner:
        sql(publishing.database, "alter table articles set (fillfactor = 10)", "vacuum full articles")

        def tell(table: str, done: int, total: int) -> None:
            told.append((table, done, total))
            assert owner.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            with publishing.database.connect(OWNER) as other:  # no lock is left
                run(other, "set lock_timeout = '1s'")
                with other.transaction():
                    run(other, f"lock table {table} in access exclusive mode")

        move.apply(owner, publishing.plan, "isolate", PACE, Watched(), told=tell)
        pieces = [done for table, done, _ in told if table == "public.articles"]
        assert len(pieces) > 2
        assert pieces == list(range(1, len(pieces) + 1))
        before = record.read_move(owner)
        assert before is not None
        assert {table: (each["rows"], each["checksum"]) for table, each in before.before.items()} == whole_sums
        told.clear()
        assert move.check(owner, publishing.plan, still=True, told=tell).clean  # across tenants, now
        assert len([table for table, *_ in told if table == "public.articles"]) > 2


def _sums(world: World) -> dict[str, tuple[int, str]]:
    from tenantry.adopt import verify

    with world.database.connect(OWNER) as owner:
        schema = worlds.schema_of(world.database)
        measured = verify.measure(owner, world.plan, schema, lambda *_: None)
    return {table: (each["rows"], each["checksum"]) for table, each in measured.items()}


def test_without_checksums_no_row_is_read_and_verify_says_what_it_cannot(publishing: World) -> None:
    database = publishing.database
    with database.connect(OWNER) as owner:
        move.apply(owner, publishing.plan, "constrain", PACE, Watched(), checksums=False)
        report = move.check(owner, publishing.plan, still=True)
    assert report.clean
    assert {(count.before, count.same) for count in report.counts} == {(None, None)}
    assert report.notes == (
        "The move began with --no-checksums: whether rows were lost or changed since, nobody can say.",
    )
    publishing.undo()


# Other logins


def test_another_login_is_told_who_may(publishing: World) -> None:
    database = publishing.database
    stranger = f"stranger_{database.name}"
    with database.connect(SUPERUSER) as superuser:
        run(superuser, f"create role {stranger} login")
        try:
            publishing.apply("expand")
            before = state(database)
            for login in (APP, stranger):
                with database.connect(login) as other:
                    for act in (
                        lambda: move.read_progress(other),
                        lambda: move.list_news(other),
                        lambda: move.undo(other, "expand", PACE, Watched()),
                        lambda: move.check(other, publishing.plan),
                        lambda: move.apply(other, publishing.plan, "constrain", PACE, Watched()),
                    ):
                        with refused(f"and this login is {login}.", f"Log in as {OWNER}."):
                            act()
            assert state(database) == before
        finally:
            run(superuser, f"drop role {stranger}")


# Locks that a step would want more of


@pytest.mark.parametrize(
    ("step", "target"),
    [("join events_tenant_id_fkey", "tenantry.tenants"), ("join events_project_id_fkey_of", "public.projects")],
)
def test_who_has_read_what_a_partitioned_table_refers_to_may_write_it_while_its_key_joins(
    tracker: World, step: str, target: str
) -> None:
    """A step that had a lock and wanted more of it would be half of a deadlock, which PostgreSQL sees at once."""
    tracker.apply("backfill")
    with (
        tracker.database.connect(SUPERUSER, autocommit=False) as app,
        tracker.database.connect(SUPERUSER) as watch,
    ):
        reads = Meanwhile(step=step, do=lambda: run(app, f"select from {target} limit 1"))
        patient = replace(PACE, lock_ms=900)
        thread = threading.Thread(target=tracker.apply, args=("constrain", reads, patient), daemon=True)
        thread.start()
        waits = (
            f"select exists (select from pg_locks where relation = '{target}'::regclass and not granted"
            " and mode = 'AccessExclusiveLock')"
        )
        give_up = time.monotonic() + 60
        while not read(watch, waits):
            assert time.monotonic() < give_up
            assert thread.is_alive()
            time.sleep(0.005)
        run(app, "set local lock_timeout = '30s'", f"lock table {target} in row exclusive mode")
        app.commit()
        thread.join(60)
        assert not thread.is_alive()
    assert tracker.findings() == []
