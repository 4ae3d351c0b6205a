"""What is in the way of a move is told in a sentence, before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from adopt import worlds
from adopt.comparing import state
from adopt.worlds import World, schema_of
from databases import APP, OWNER, SUPERUSER, Database
from sql.tenants import run
from tenantry.adopt import move, ownership
from tenantry.adopt.plan import Decision, Rows, Source
from tenantry.adopt.step import Phase
from tenantry.errors import AdoptionRefused


@contextmanager
def refused(world: World, *sentences: str) -> Iterator[None]:
    """The move must be refused with these sentences, and leave everything as it was."""
    before = state(world.database)
    with worlds.refused(*sentences):
        yield
    assert state(world.database) == before


def as_superuser(database: Database, *statements: str) -> None:
    with database.connect(SUPERUSER) as superuser:
        run(superuser, *statements)


def test_what_is_undecided_gone_or_new_is_told_at_once(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(owner, "create table newcomers (id integer)", "drop table drafts")
    world = world.with_plan(Decision("public.follows", "undecided"))
    with refused(
        world,
        "3 things are in the way",
        "public.drafts is not in the database.",
        "public.follows is undecided: say whose its rows are.",
        "public.newcomers is not in adopt.toml",
    ):
        world.apply()


@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        (Decision("public.articles", "owner", ("nobody",)), "it has no column nobody."),
        (Decision("public.articles", "owner", ("id",)), "id is no foreign key to public.users (id)."),
        (Decision("public.articles", "reference", ("id",)), "no foreign key is on id."),
        (Decision("public.articles", "reference", ("author_id",)), "public.users, whose rows get no tenant."),
        (Decision("public.comments", "reference", ("parent_id",)), "refers to the same table"),
        (Decision("public.articles", "column", ("id",)), "id is bigint, and Clerk's ids are text."),
        (Decision("public.articles", "organization"), "is not named in [rows]."),
        (Decision("public.articles", "owner", ("author_id",), keep=("x",)), "it has no key x to keep."),
        (Decision("public.tags", "shared", mode="all"), 'mode is one of read, write, none, not "all".'),
    ],
)
def test_a_decision_that_does_not_fit_the_table_is_told(database: Database, decision: Decision, sentence: str) -> None:
    world = worlds.publishing(database).with_plan(decision)
    with refused(world, decision.table, sentence):
        world.apply()


def test_a_plan_for_one_organization_that_does_not_name_it_is_told_how_to_get_one(database: Database) -> None:
    world = worlds.publishing(database).with_plan(rows=Rows(to="organization"))
    with refused(world, '[rows]: to = "organization" takes organization = "org_..."', "organizations --name"):
        world.apply()


def test_users_without_a_clerk_id_or_unknown_to_the_mirror_are_told(database: Database) -> None:
    world = worlds.publishing(database)
    as_superuser(
        database,
        "alter table users alter column clerk_id drop not null",
        "update users set clerk_id = null where id = 1",
        "update users set clerk_id = 'user_stranger' where id = 2",
    )
    with refused(
        world,
        "1 rows of public.users have no Clerk id in clerk_id. Fill them, or name who gets the rest.",
        "public.users.clerk_id: user_stranger is not in the mirror. Run `tenantry reconcile`",
    ):
        world.apply()


def test_a_mirror_that_has_not_seen_clerk_is_told(database: Database) -> None:
    worlds.load(database, "publishing")
    world = World(database, worlds.publishing_plan(schema_of(database)))
    with refused(world, "run `tenantry reconcile` first"):
        world.apply()


def test_values_without_an_organization_are_told(database: Database) -> None:
    world = worlds.tracker(database)
    world = world.with_plan(rows=replace(world.plan.rows, organizations={"1": "org_one", "2": "org_lost"}))
    with refused(world, "3 is not in [rows.organizations].", "org_lost is not in the mirror."):
        world.apply()


def test_a_file_that_lacks_users_is_told_by_name(database: Database, tmp_path: Path) -> None:
    world = worlds.publishing(database)
    worlds.mirror_organizations(database, ["org_a"])
    owners = tmp_path / "owners.csv"
    owners.write_text("".join(f"{n},org_a\n" for n in range(1, worlds.USERS)))
    world = world.with_plan(rows=Rows(to="csv", csv=str(owners)))
    with refused(world, f"{worlds.USERS} is not in {owners}"):
        world.apply()


def test_a_column_that_has_the_name_already_is_told(database: Database) -> None:
    world = worlds.publishing(database)
    as_superuser(database, "alter table articles add tenant_id integer")
    with refused(world, "public.articles: it has a column tenant_id already"):
        world.apply()


def test_somebody_elses_tables_are_told(database: Database) -> None:
    world = worlds.publishing(database)
    with refused(world, f"The tables belong to {OWNER}, and this login is {APP}."), database.connect(APP) as app:
        move.apply(app, world.plan, "constrain", worlds.PACE, worlds.Watched())
    as_superuser(database, "alter table drafts owner to postgres")
    with refused(world, "The tables have 2 owners"):
        world.apply()


def test_an_owner_who_may_create_no_schema_is_told(database: Database) -> None:
    world = worlds.publishing(database)
    as_superuser(database, f"revoke create on database {database.name} from {OWNER}")
    with refused(world, f"grant create on database {database.name} to {OWNER};"):
        world.apply()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("create table inherited () inherits (drafts)", "it inherits, or is inherited from"),
        ("alter table drafts enable row level security, force row level security", "forced on it by somebody else"),
        ("create rule nothing as on delete to drafts do also nothing", "it has rewrite rules"),
        (
            'create type drafted as (id uuid, "ownerId" bigint, "order" integer, text text);'
            " alter table drafts of drafted",
            "its columns are those of a type",
        ),
    ],
)
def test_a_table_that_cannot_be_moved_is_told_with_the_reason(database: Database, statement: str, reason: str) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(owner, statement)
    _, why = ownership.propose(schema_of(database), Rows())
    assert reason in why["public.drafts"].reason
    with refused(world, "public.drafts: its rows can have no tenant", reason):
        world.apply()


def test_a_published_table_whose_rows_cannot_be_updated_is_told(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(owner, "alter table drafts drop constraint drafts_pkey", "create publication everything for table drafts")
    with refused(world, "public.drafts: it is published and has no primary key"):
        world.apply()


def test_a_trigger_that_would_run_for_every_row_is_told_and_may_be_kept_quiet_or_let_run(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(owner, "create trigger always before update on articles for each row execute function touch()")
        stamps = "select md5(string_agg(updated_at::text, ',' order by id)) from articles"
        before = owner.execute(stamps.encode()).fetchone()
        with refused(world, "its trigger always would run for every row", 'write triggers = "fire"'):
            world.apply()
        as_superuser(database, f"grant set on parameter session_replication_role to {OWNER}")
        try:
            world.apply()
            assert world.findings() == []
            assert owner.execute(stamps.encode()).fetchone() == before
            world.undo()
        finally:
            as_superuser(database, f"revoke set on parameter session_replication_role from {OWNER}")
        decision = next(d for d in world.plan.decisions if d.table == "public.articles")
        world.with_plan(replace(decision, triggers="fire")).apply()
        assert owner.execute(stamps.encode()).fetchone() != before


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("alter table drafts enable row level security", "row level security is enabled on public.drafts already"),
        ("create policy theirs on drafts using (true)", "it has policies of its own (theirs)"),
        ("grant select (text) on drafts to public", "somebody has rights on its column text alone"),
        (
            "alter table drafts replica identity using index drafts_pkey",
            "its replica identity is the index drafts_pkey",
        ),
        ('alter table drafts rename "order" to "a$$b"', 'the name "a$$b" holds $$'),
        ('alter table drafts rename constraint drafts_pkey to "a$$b"', 'the name "a$$b" holds $$'),
        ('alter table drafts add constraint later unique ("order", "ownerId") deferrable', 'Write keep = ["later"]'),
        (
            "alter table drafts add article_id bigint constraint loose references articles;"
            " alter table drafts drop constraint loose;"
            " alter table drafts add constraint loose foreign key (article_id) references articles not valid",
            "alter table public.drafts validate constraint loose; or write keep",
        ),
        (
            'alter table drafts drop constraint drafts_pkey, add primary key ("ownerId", "order");'
            ' create publication partly for table drafts ("ownerId", "order")',
            "partly publishes a list of its columns",
        ),
    ],
)
def test_what_a_move_would_break_or_not_bring_back_is_told(database: Database, statement: str, sentence: str) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(owner, statement)
    with refused(world, "public.drafts: ", sentence):
        world.apply()


def test_what_only_a_partition_has_is_told_of_its_table(database: Database) -> None:
    world = worlds.tracker(database)
    with database.connect(OWNER) as owner:
        run(owner, "alter table events_2025 enable row level security", "grant select (at) on events_2026 to public")
    with refused(world, "public.events: row level security is enabled on public.events_2025", "its column at alone"):
        world.apply()


def test_a_column_of_whole_rows_is_told_where_a_default_would_be_refused(database: Database) -> None:
    worlds.publishing(database)
    worlds.mirror_organizations(database, ["org_one"])
    with database.connect(OWNER) as owner:
        run(owner, "create table kept (id integer primary key, article articles)")
    plan, _ = ownership.propose(schema_of(database), Rows(to="organization", organization="org_one"))
    world = World(database, plan).with_plan(Decision("public.kept", "shared", mode="none"))
    with refused(world, "public.articles: the column article of public.kept holds whole rows of it"):
        world.apply()
    worlds.mirror_users(database, [f"user_{n}" for n in range(1, worlds.USERS + 1)])
    world = World(database, worlds.publishing_plan(schema_of(database)))
    world.with_plan(Decision("public.kept", "shared", mode="none")).apply("expand")  # and elsewhere it is not


def test_row_level_security_of_a_shared_table_is_left_as_it_is(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(owner, "alter table tags enable row level security", "create policy theirs on tags using (true)")
    before = state(database)
    world.apply("isolate")
    world.undo()
    assert state(database) == before


@pytest.mark.parametrize("manner", ["always", "replica"])
def test_a_trigger_that_cannot_be_kept_quiet_is_told_and_may_be_let_run(database: Database, manner: str) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(
            owner,
            "create trigger loud before update on articles for each row execute function touch()",
            f"alter table articles enable {manner} trigger loud",
        )
    as_superuser(database, f"grant set on parameter session_replication_role to {OWNER}")
    try:
        with refused(world, "public.articles: its trigger loud is enabled ALWAYS or for REPLICA"):
            world.apply()
    finally:
        as_superuser(database, f"revoke set on parameter session_replication_role from {OWNER}")
    decision = next(d for d in world.plan.decisions if d.table == "public.articles")
    world.with_plan(replace(decision, triggers="fire")).apply()


def test_a_deferrable_key_that_is_kept_is_in_nobodys_way(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(owner, "alter table follows add constraint later unique (followed_id, follower_id) deferrable")
    world = world.with_plan(Decision("public.follows", "owner", ("follower_id",), keep=("later",)))
    world.apply("contract")
    assert world.findings() == []


def test_subscribers_and_materialized_views_are_told_of_and_in_nobodys_way(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(
            owner,
            "create publication outside for table articles, tags",
            "create materialized view copied as select title from published",
        )
        publication, view = move.list_notices(owner, world.plan)
        assert publication.startswith("public.articles: outside publishes it.")
        assert "tenant_id uuid first" in publication
        assert view.startswith("public.articles: the materialized view public.copied reads it")
        world.apply()
        assert move.list_notices(owner, world.plan) == []


def test_a_foreign_table_is_nobodys_business(database: Database) -> None:
    as_superuser(
        database,
        "create foreign data wrapper elsewhere",
        "create server there foreign data wrapper elsewhere",
        "create foreign table far (id integer) server there",
        f"alter foreign table far owner to {OWNER}",
    )
    world = worlds.publishing(database)
    assert world.plan.of("public.far") is None
    with refused(world, "public.far is not in the database"):
        world.with_plan(Decision("public.far", "shared", mode="none")).apply()
    world.apply("isolate")


@pytest.mark.parametrize("org_id", ["", "org_nobodys"])
def test_rows_of_an_organization_that_nobody_has_are_told_before_they_are_hidden(
    database: Database, org_id: str
) -> None:
    world = worlds.handmade(database)
    world.apply("constrain")
    with database.connect(OWNER) as owner:
        owner.execute("insert into documents (org_id, title) values (%s, 'lost')", [org_id])
    with refused(world, "public.documents.org_id: ", "Mend the rows"):
        world.apply("isolate")
    with database.connect(OWNER) as owner:
        run(owner, "delete from documents where title = 'lost'")
    world.apply("isolate")


def test_rows_of_another_tenant_than_their_owners_are_told_before_they_are_hidden(database: Database) -> None:
    world = worlds.tracker(database)
    world.apply("constrain")
    with database.connect(OWNER) as owner:
        other = "select p.tenant_id from projects as p where p.tenant_id <> projects.tenant_id limit 1"
        run(owner, f"update projects set tenant_id = ({other}) where id = 1")
    with refused(world, "public.projects: 1 rows have another tenant than their owner.", "tenantry adopt verify"):
        world.apply("isolate")
    with database.connect(OWNER) as owner:
        move.apply(owner, world.plan, "isolate", worlds.PACE, worlds.Watched(), differing=True)


@pytest.mark.parametrize("phase", ["expand", "backfill", "contract"])
def test_verify_tells_of_a_table_that_is_gone(database: Database, phase: Phase) -> None:
    world = worlds.publishing(database)
    world.apply(phase)
    with database.connect(OWNER) as owner:
        run(owner, "drop table drafts, articles cascade")
    told = [(kind, table) for kind, table, _ in world.findings()]
    assert [table for kind, table in told if kind == "gone"] == ["public.articles", "public.drafts"]


def test_a_table_that_is_gone_before_isolation_is_told(database: Database) -> None:
    world = worlds.publishing(database)
    world.apply("constrain")
    with database.connect(OWNER) as owner:
        run(owner, "drop table drafts")
    with refused(world, "public.drafts is not in the database any more."):
        world.apply("isolate")


def test_another_plan_than_the_one_begun_is_told(database: Database) -> None:
    world = worlds.publishing(database)
    world.apply("expand")
    other = world.with_plan(Decision("public.drafts", "shared", mode="none"))
    with refused(world, "adopt.toml is not the plan that has begun here."):
        other.apply()


def test_nothing_to_undo_is_told(database: Database) -> None:
    world = worlds.publishing(database)
    with refused(world, "No move has begun here"):
        world.undo()


def test_rows_that_cross_tenants_are_told_before_a_key_could_refuse_them(database: Database) -> None:
    worlds.load(database, "publishing")
    worlds.mirror_users(database, ["user_1", "user_2"])
    with database.connect(OWNER) as owner:
        run(
            owner,
            "insert into users (clerk_id, email, username) values ('user_1', '1', '1'), ('user_2', '2', '2')",
            "insert into articles (author_id, slug, title) select id, id::text, 'x' from users",
            "insert into comments (article_id, body) select id, 'x' from articles",
            "update comments set parent_id = 1 where id = 2",
        )
    world = World(database, worlds.publishing_plan(schema_of(database)))
    world.apply("constrain")
    assert [kind for kind, *_ in world.findings()] == ["crossing"]
    with pytest.raises(AdoptionRefused, match="refer to another tenant's row"):
        world.apply("isolate")
    world.undo()
    kept = Decision("public.comments", "reference", ("article_id",), keep=("comments_parent_id_fkey",))
    world = world.with_plan(kept)
    world.apply("contract")
    assert world.findings() == []


def test_a_source_that_is_wrong_is_told(database: Database) -> None:
    world = worlds.publishing(database)
    with refused(world, "[users]: public.users (bio) is not unique."):
        world.with_plan(users=Source("public.users", "bio", "clerk_id")).apply()
    with refused(world, "[users]: public.people is not in the database."):
        world.with_plan(users=Source("public.people", "id", "clerk_id")).apply()


def test_a_table_that_goes_while_it_is_moved_is_told_and_the_rest_can_be_undone(database: Database) -> None:
    world = worlds.publishing(database)
    world.apply("backfill")
    with database.connect(OWNER) as owner:
        run(owner, "drop table drafts")
    with pytest.raises(AdoptionRefused, match=r"public\.drafts is not in the database any more"):
        world.apply("constrain")
    world.undo()
    after = state(database)
    assert "tenant_id" not in str(after["columns"])
    assert "tenantry_adopt" not in str(after)


def test_a_unique_that_no_longer_holds_is_told(database: Database) -> None:
    """Somebody drops a key while the move goes on, and doubles come."""
    world = worlds.publishing(database)
    world.apply("backfill")
    with database.connect(OWNER) as owner:
        run(owner, 'alter table drafts drop constraint "drafts_ownerId_order_key"', 'update drafts set "order" = 1')
    with pytest.raises(AdoptionRefused, match="found rows that are not unique"):
        world.apply("constrain")
