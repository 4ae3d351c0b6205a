"""The end of a move: what depends on a key that goes is told of first, and nothing that was said of a key is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adopt import worlds
from adopt.comparing import go_back_and_forth, state
from adopt.test_preflight import refused
from databases import OWNER, SUPERUSER, Database
from sql.tenants import read, rows, run
from tenantry.adopt import move

BUSY = (
    "select i.project_id, i.number, i.title, count(*) as entries"
    ' from issues as i join "TimeEntries" as t on t.project = i.project_id and t.number = i.number'
    " group by i.project_id, i.number"
)
KEY = "select pg_get_constraintdef(oid) from pg_constraint where conname = %s"


@pytest.fixture
def tablespace(database: Database) -> Iterator[str]:
    """Within the server's own folder: no other has to be there."""
    name = f"fast_{database.name}"
    with database.connect(SUPERUSER) as superuser:
        run(superuser, "set allow_in_place_tablespaces = on", f"create tablespace {name} location ''")
        run(superuser, f"grant create on tablespace {name} to {OWNER}")
        yield name
    with database.server.create().connect(SUPERUSER) as other:  # from another one, as the database itself goes first
        database.server.drop(database)
        run(other, f"drop tablespace {name}")


def test_a_key_that_a_view_needs_stays_and_that_is_told(database: Database) -> None:
    world = worlds.tracker(database)
    with database.connect(OWNER) as owner:
        run(owner, f"create view busy as {BUSY}", f"create materialized view busier as {BUSY}")
        (notice, *_) = [line for line in move.list_notices(owner, world.plan) if "stays as it is" in line]
        assert "public.issues: its key issues_pkey stays" in notice
        assert "the view public.busy" in notice
        assert "the materialized view public.busier" in notice
    go_back_and_forth(world)
    with database.connect(SUPERUSER) as superuser:
        assert read(superuser, KEY, "issues_pkey") == "PRIMARY KEY (project_id, number)"
        assert read(superuser, KEY, "labels_pkey") == "PRIMARY KEY (tenant_id, project_id, name)"
        assert read(superuser, "select count(*) from busy") == read(superuser, "select count(*) from issues")


def test_what_came_to_depend_on_keys_meanwhile_is_told_before_contract_begins(database: Database) -> None:
    world = worlds.tracker(database)
    world.apply("isolate")
    with database.connect(OWNER) as owner:
        run(
            owner,
            f"create view busy as {BUSY}",
            "create table attachments (project_id bigint, number integer,"
            " constraint attached foreign key (project_id, number) references issues on delete cascade)",
            "create function titles() returns setof text language sql begin atomic"
            " select max(title) from issues group by project_id, number; end",
        )
    with refused(
        world,
        "2 things are in the way",
        "public.issues: the foreign key attached of public.attachments depends on its key issues_pkey, which would go.",
        "alter table public.attachments drop constraint attached;",
        "FOREIGN KEY (project_id, number) REFERENCES public.issues(project_id, number) ON DELETE CASCADE",
        "public.issues: the view public.busy depends on its key issues_pkey",
        "drop view public.busy; and make it again afterwards",
        "create view public.busy as SELECT i.project_id, i.number, i.title, count(*) AS entries",
        "or `tenantry adopt undo` and plan again",
    ):
        world.apply("contract")
    with database.connect(OWNER) as owner:
        run(owner, "drop view busy", "alter table attachments drop constraint attached")
    world.apply("contract")
    with database.connect(OWNER) as owner:
        run(owner, f"create view busy as {BUSY.replace('group by', 'group by i.tenant_id,')}")
    assert [kind for kind, table, _ in world.findings() if table != "public.attachments"] == []


def test_undone_and_planned_again_what_others_depend_on_is_kept(database: Database) -> None:
    world = worlds.tracker(database)
    world.apply("isolate")
    with database.connect(OWNER) as owner:
        run(owner, f"create view busy as {BUSY}")
    with refused(world, "public.busy depends"):
        world.apply("contract")
    world.undo()
    world.apply("contract")
    assert world.findings() == []


def test_a_step_of_contract_that_fails_offers_no_way_back(database: Database) -> None:
    world = worlds.tracker(database)
    world.apply("isolate")
    with database.connect(OWNER) as owner:
        run(owner, "alter table issue_labels drop constraint issue_labels_project_id_label_fkey")
    with pytest.raises(Exception, match="failed") as caught:
        world.apply("contract")
    assert "undo" not in str(caught.value)


def test_what_is_said_of_keys_and_how_they_are_kept_outlives_the_move(database: Database, tablespace: str) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(
            owner,
            "alter index follows_pkey set (fillfactor = 71)",
            "alter index articles_by_time set (fillfactor = 72, deduplicate_items = off)",
            f'alter index "drafts_ownerId_order_key" set tablespace {tablespace}',
            "alter index articles_by_title alter column 1 set statistics 500",
            "cluster comments using comments_by_article",
            "comment on index articles_by_time is 'It''s $$ \\ fast'",
            "comment on index follows_pkey is 'Of the index'",
            "comment on constraint follows_pkey on follows is 'Who follows $whom$'",
            "comment on constraint \"drafts_ownerId_order_key\" on drafts is 'In order'",
            "comment on constraint comments_article_id_fkey on comments is 'On what'",
            "comment on column articles.title is 'Of the column'",
            "alter table articles alter title set statistics 300, alter title set storage external",
            "alter table articles alter title set (n_distinct = -1), set (fillfactor = 80)",
            "create statistics together on author_id, title from articles",
        )
    before = go_back_and_forth(world)
    after = state(database)
    for what in ("storage", "comments", "statistics", "rules", "publications"):
        assert set(before[what]) <= set(after[what]), what
    with database.connect(SUPERUSER) as superuser:
        assert read(superuser, KEY, "follows_pkey") == "PRIMARY KEY (tenant_id, follower_id, followed_id)"
        title = "select attstattarget || attstorage::text || attoptions::text from pg_attribute where attname = 'title'"
        assert rows(superuser, f"{title} and attrelid = 'articles'::regclass") == ["300e{n_distinct=-1}"]


def test_what_is_said_of_an_index_of_partitions_outlives_the_move_too(database: Database) -> None:
    world = worlds.tracker(database)
    with database.connect(OWNER) as owner:
        run(
            owner,
            "alter table events add constraint once unique (project_id, id, at)",
            "comment on constraint once on events is 'Once'",
            "comment on index events_by_project is 'All'",
            "comment on index events_2025_project_id_at_idx is 'Of one'",
            "alter index events_2025_project_id_at_idx set (fillfactor = 73)",
            "alter table events_2025 cluster on events_2025_project_id_at_idx",
        )
    world.apply("contract")
    with database.connect(SUPERUSER) as superuser:
        assert read(superuser, "select obj_description('events_by_project'::regclass)") == "All"
        assert read(superuser, "select obj_description('once'::regclass)") == "Once"
        query = (
            "select pg_get_indexdef(indexrelid) || obj_description(indexrelid) from pg_index"
            " where indisclustered and indrelid = 'events_2025'::regclass"
        )
        found = str(read(superuser, query))
    assert "(tenant_id, project_id, at)" in found
    assert "fillfactor='73'" in found
    assert found.endswith("Of one")


def test_a_tablespace_that_the_owner_may_not_use_is_told(database: Database, tablespace: str) -> None:
    world = worlds.publishing(database)
    with database.connect(SUPERUSER) as superuser:
        run(
            superuser,
            f"alter index articles_by_time set tablespace {tablespace}",
            f"revoke create on tablespace {tablespace} from {OWNER}",
        )
    with refused(world, f"public.articles: an index of it is in the tablespace {tablespace}"):
        world.apply()
