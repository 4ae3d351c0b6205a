"""References that no foreign key enforces: derived as if one did, and what only then can happen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from adopt import worlds
from adopt.comparing import state
from adopt.worlds import World, decide, personal_tenant, schema_of
from databases import APP, OWNER, SUPERUSER, Database
from sql.tenants import read, rows, run
from tenantry.adopt import models, move, ownership
from tenantry.adopt.catalog import Schema
from tenantry.adopt.names import format_target
from tenantry.adopt.plan import Decision, Plan, Rows, check, reference_of
from tenantry.adopt.step import Phase
from tenantry.errors import AdoptionRefused

# What a person decides about each app, whether or not its references are foreign keys.
DECIDED = {
    "publishing": [
        Decision("public.articles", "owner", ("author_id",), keep=("articles_slug_key",)),
        Decision("public.comments", "reference", ("article_id",)),
        Decision("public.follows", "owner", ("follower_id",)),
    ],
    "tracker": [
        Decision("public.issues", "reference", ("project_id",)),
        Decision("public.issue_labels", "reference", ("project_id", "number")),
        Decision('public."TimeEntries"', "reference", ("project",)),
        Decision("public.teams", "shared", mode="read"),
    ],
    "handmade": [Decision("public.plans", "shared", mode="read")],
}


def reflect(database: Database) -> sa.MetaData:
    """The models of an app, which has foreign keys in them."""
    engine, metadata = sa.create_engine(database.url(OWNER)), sa.MetaData()
    with engine.connect() as connection:
        for space in (None, *rows_of(database, "select nspname::text from pg_namespace where nspname = 'billing'")):
            metadata.reflect(connection, schema=space)
    engine.dispose()
    return metadata


def rows_of(database: Database, query: str) -> list[Any]:
    with database.connect(OWNER) as owner:
        return rows(owner, query)


def drop_foreign_keys(database: Database) -> None:
    drops = rows_of(
        database,
        "select format('alter table %s drop constraint %I', conrelid::regclass, conname) from pg_constraint"
        " where contype = 'f' and conparentid = 0 and connamespace <> 'tenantry'::regnamespace",
    )
    with database.connect(OWNER) as owner:
        run(owner, *drops)


def tenants(world: World) -> dict[str, list[tuple[str, str]]]:
    """Each row, and its tenant, by table."""
    found = {}
    with world.database.connect(SUPERUSER) as superuser:
        for decision in world.plan.owned:
            tenant = "coalesce(to_jsonb(t) ->> 'tenant_id', to_jsonb(t) ->> 'org_id')"
            query = (
                f"select (to_jsonb(t) - 'tenant_id' - 'org_id')::text, {tenant} from {decision.table} as t order by 1"
            )
            found[decision.table] = superuser.execute(query.encode()).fetchall()
    return found


def told(schema: Schema, decision: Decision) -> Decision:
    """With what it refers to, where only the models know."""
    found = reference_of(schema, decision)
    if found is None or found.enforced or decision.tenant == "shared":
        return decision
    return replace(decision, refers_to=format_target(found.target, found.target_columns))


@pytest.mark.parametrize("name", DECIDED)
def test_without_foreign_keys_the_models_give_every_row_the_same_tenant(name: str, database: Database) -> None:
    world: World = getattr(worlds, name)(database)
    world.apply("backfill")
    expected = tenants(world)
    world.undo()
    metadata = reflect(database)
    drop_foreign_keys(database)
    schema, notices = models.complete(schema_of(database), metadata, "app:metadata")
    assert notices == []
    plan, why = ownership.propose(schema, world.plan.rows, world.plan.users, world.plan.organizations)
    assert any(
        proposal.reason.endswith("the models say so, the database does not see to it") for proposal in why.values()
    )
    plan = decide(plan, *(told(schema, decision) for decision in DECIDED[name]))
    bare = World(database, plan)
    assert {d.table: d.tenant for d in plan.decisions} == {d.table: d.tenant for d in world.plan.decisions}
    before = state(database)
    bare.apply("constrain")
    assert tenants(bare) == expected
    assert bare.findings() == []
    bare.apply("isolate")
    bare.undo()
    assert state(database) == before
    bare.apply("contract")
    assert bare.findings() == []
    assert tenants(bare) == expected


# A small app without a single foreign key

ARTICLES = Decision("public.articles", "owner", ("author_id",), refers_to="public.users (id)")
COMMENTS = Decision("public.comments", "reference", ("article_id",), refers_to="public.articles (id)")


@pytest.fixture
def blog(database: Database) -> World:
    """Each of two users has ten articles with a comment each."""
    worlds.mirror_users(database, ["user_1", "user_2"])
    worlds.mirror_organizations(database, ["org_rest"])
    with database.connect(OWNER) as owner:
        run(
            owner,
            "create table users (id bigint primary key, clerk_id text unique)",
            "insert into users values (1, 'user_1'), (2, 'user_2')",
            "create table articles (id bigint primary key, author_id integer not null)",
            "insert into articles select n, 1 + n % 2 from generate_series(1, 20) n",
            "create table comments (id bigint primary key, article_id bigint, text text)",
            "insert into comments select n, n, 'text' from generate_series(1, 20) n",
            "create index on comments (article_id)",
            f"grant select, insert, update, delete on users, articles, comments to {APP}",
            "analyze",
        )
    plan, _ = ownership.propose(schema_of(database), Rows())
    return World(database, decide(plan, ARTICLES, COMMENTS))


def tenant(world: World, comment: int) -> str | None:
    with world.database.connect(SUPERUSER) as superuser:
        found = read(superuser, "select tenant_id::text from comments where id = %s", comment)
        return None if found is None else str(found)


def test_rows_that_come_meanwhile_follow_what_they_refer_to(blog: World) -> None:
    blog.apply("constrain")
    first, second = (personal_tenant(blog.database, f"user_{n}") for n in (1, 2))
    with blog.database.connect(APP) as app:
        run(app, "insert into articles values (100, 1)", "insert into comments values (100, 100)")
        assert tenant(blog, 100) == first
        run(app, "update comments set article_id = 1 where id = 100")
        assert tenant(blog, 100) == second
        run(app, "update articles set author_id = 1 where id = 1")
        assert (tenant(blog, 100), tenant(blog, 1)) == (first, first)
    assert blog.findings(still=False) == []


def test_a_row_that_is_written_while_what_it_refers_to_changes_hands_follows_it_in_the_end(blog: World) -> None:
    blog.apply("backfill")
    with blog.database.connect(APP, autocommit=False) as slow, blog.database.connect(APP) as app:
        slow.execute("insert into comments values (100, 1)")  # whoever moves the article does not see it yet
        run(app, "update articles set author_id = 1 where id = 1")
    assert tenant(blog, 100) == personal_tenant(blog.database, "user_2")
    blog.apply("constrain")
    assert tenant(blog, 100) == personal_tenant(blog.database, "user_1")
    assert blog.findings(still=False) == []


def test_a_row_that_came_before_what_it_refers_to_gets_its_tenant_in_the_end(blog: World) -> None:
    blog.apply("constrain")
    with blog.database.connect(APP) as app:
        run(app, "insert into comments values (100, 100)")
        assert tenant(blog, 100) is None
        run(app, "insert into articles values (100, 1)")
    blog.apply("isolate")
    assert tenant(blog, 100) == personal_tenant(blog.database, "user_1")
    assert blog.findings(still=False) == []


def test_who_loses_what_they_refer_to_stay_with_their_tenant(blog: World) -> None:
    """An app without foreign keys deletes an article and leaves its comments."""
    blog.apply("constrain")
    before = tenant(blog, 1)
    with blog.database.connect(APP) as app:
        run(app, "delete from articles where id = 1", "delete from users where id = 1")
    assert blog.findings(still=False) == []
    blog.apply("contract")
    assert tenant(blog, 1) == before
    assert blog.findings(still=False) == []


def notices(world: World) -> list[str]:
    with world.database.connect(OWNER) as owner:
        return move.list_notices(owner, world.plan)


def test_rows_that_refer_to_nothing_are_told_and_keep_a_table_from_isolation(blog: World) -> None:
    with blog.database.connect(OWNER) as owner:
        run(owner, "insert into comments values (100, 100), (101, 101), (102, null)")
    assert notices(blog) == [
        "public.comments: 2 of its rows refer by article_id to no row of public.articles (id), and need mending, or "
        "somebody who gets the rest, before `isolate`."
    ]
    blog.apply("constrain")
    assert blog.findings() == [
        ("null", "public.comments", "3 rows have no tenant. 2 of them refer to no row of public.articles (id).")
    ]
    with pytest.raises(AdoptionRefused, match=r"2 of them refer to no row of public.articles \(id\)"):
        blog.apply("isolate")
    with blog.database.connect(APP) as app:
        run(app, "delete from comments where id > 100", "update comments set article_id = 1 where id = 100")
    blog.apply("isolate")
    assert blog.findings(still=False) == []


def test_rows_that_refer_to_nothing_go_to_the_rest(blog: World) -> None:
    with blog.database.connect(OWNER) as owner:
        run(owner, "insert into comments values (100, 100)")
    blog = blog.with_plan(rows=Rows(rest="org_rest"))
    assert [notice for notice in notices(blog) if notice.endswith("public.articles (id), and go to the rest.")]
    blog.apply("isolate")
    assert blog.findings() == []
    with blog.database.connect(OWNER) as owner:
        assert tenant(blog, 100) == read(owner, "select (tenantry.find_tenant('org_rest')).id::text")


@pytest.mark.parametrize("phase", ["backfill", "constrain"])
def test_rows_of_the_rest_follow_what_they_refer_to_though_it_comes_later(blog: World, phase: Phase) -> None:
    blog = blog.with_plan(rows=Rows(rest="org_rest"))
    blog.apply(phase)
    with blog.database.connect(OWNER) as owner:
        rest = read(owner, "select (tenantry.find_tenant('org_rest')).id::text")
    with blog.database.connect(APP) as app:
        run(app, "insert into comments values (100, 100), (101, 101), (102, 102)")
        run(app, "insert into articles values (101, 3)")
        assert {tenant(blog, comment) for comment in (100, 101, 102)} == {rest}
        worlds.mirror_users(blog.database, ["user_3"])
        run(app, "insert into articles values (100, 1)", "insert into users values (3, 'user_3')")
    assert blog.findings(still=False) == [
        ("waiting", "public.articles", "1 rows wait for the next `tenantry adopt apply`."),
        ("waiting", "public.comments", "2 rows wait for the next `tenantry adopt apply`."),
    ]
    blog.apply(phase)
    assert blog.findings(still=False) == []
    assert blog.apply(phase).done == []
    first, third = (personal_tenant(blog.database, f"user_{n}") for n in (1, 3))
    assert [tenant(blog, comment) for comment in (100, 101, 102)] == [first, third, rest]


def test_rows_of_the_rest_follow_what_they_refer_to_before_they_are_hidden(blog: World) -> None:
    blog = blog.with_plan(rows=Rows(rest="org_rest"))
    blog.apply("constrain")
    with blog.database.connect(APP) as app:
        run(app, "insert into comments values (100, 100)", "insert into articles values (100, 1)")
    blog.apply("isolate")
    assert tenant(blog, 100) == personal_tenant(blog.database, "user_1")
    assert blog.findings(still=False) == []


def test_a_reference_without_an_index_is_told(blog: World) -> None:
    with blog.database.connect(OWNER) as owner:
        run(owner, "drop index comments_article_id_idx")
    assert [notice for notice in notices(blog) if "no index is on article_id" in notice]


@pytest.mark.parametrize("kinds", [1, 2])
def test_a_column_that_refers_to_several_tables_is_refused_where_it_does(blog: World, kinds: int) -> None:
    with blog.database.connect(OWNER) as owner:
        run(
            owner,
            "create table likes (id bigint primary key, likeable_type text, likeable_id bigint)",
            "insert into likes"
            f" select n, (array['Article', 'Comment'])[1 + n % {kinds}], n from generate_series(1, 9) n",
        )
    liked = Decision("public.likes", "reference", ("likeable_id",), refers_to="public.articles (id)")
    blog = blog.with_plan(liked)
    if kinds == 1:
        blog.apply("isolate")
        assert blog.findings() == []
    else:
        with pytest.raises(AdoptionRefused) as caught:
            blog.apply("expand")
        assert "likeable_type says which, and holds 2 values" in (caught.value.detail or "")


@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        (replace(COMMENTS, refers_to="public.nothing (id)"), "it refers to public.nothing (id), which is not in the"),
        (replace(COMMENTS, refers_to="public.articles (nr)"), "and that has no column nr."),
        (replace(COMMENTS, refers_to="public.articles (author_id)"), "which is not unique"),
        (replace(COMMENTS, refers_to="public.articles (id, author_id)"), "as many columns on either side"),
        (replace(COMMENTS, column=("text",)), "text is text, and id of public.articles is bigint: give them one type."),
        (replace(COMMENTS, refers_to="public.comments (id)"), "article_id refers to the same table"),
        (replace(COMMENTS, refers_to="public.users (id)"), "refers to public.users, whose rows get no tenant."),
        (replace(COMMENTS, refers_to=""), "no foreign key is on article_id. Say what it refers to: refers_to = "),
        (replace(COMMENTS, tenant="organization"), 'refers_to goes with tenant = "owner" or "reference"'),
        (replace(COMMENTS, tenant="owner"), "article_id refers to public.articles (id), and the users' key"),
    ],
)  # fmt: skip
def test_what_cannot_be_referred_to_is_a_sentence(blog: World, decision: Decision, sentence: str) -> None:
    problems = check(decide(blog.plan, decision), schema_of(blog.database))
    assert [problem for problem in problems if sentence in problem]


def test_a_foreign_key_to_something_else_is_believed(blog: World) -> None:
    with blog.database.connect(OWNER) as owner:
        run(owner, "alter table comments add constraint there foreign key (article_id) references articles")
    schema = schema_of(blog.database)
    assert check(blog.plan, schema) == []  # the same that the plan says
    wrong = replace(COMMENTS, refers_to="public.users (id)")
    assert [p for p in check(decide(blog.plan, wrong), schema) if "by the foreign key there" in p]


def test_what_a_column_could_refer_to_by_its_name_is_a_choice_and_no_guess(blog: World) -> None:
    plan, why = ownership.propose(schema_of(blog.database), Rows())
    assert isinstance(plan, Plan)
    assert why["public.articles"].choices[0] == ARTICLES
    assert why["public.comments"].choices[0] == COMMENTS
    assert {why[f"public.{name}"].decision.tenant for name in ("articles", "comments")} == {"undecided"}
    assert why["public.comments"].reason == (
        "no foreign key says whose its rows are; by name and type could article_id of public.articles (id)"
    )


def test_the_apps_own_triggers_find_what_they_name_when_rows_follow(blog: World) -> None:
    """They run within a function of the move, which has a search path of its own."""
    database = blog.database
    with database.connect(OWNER) as owner:
        run(
            owner,
            "create table history (what jsonb)",
            "create function remember() returns trigger language plpgsql as"
            " $$ begin insert into history values (to_jsonb(new)); return new; end $$",
            "create trigger remember after update on comments for each row execute function remember()",
        )
    world = blog.with_plan(replace(COMMENTS, triggers="fire"), Decision("public.history", "shared", mode="write"))
    world.apply("constrain")
    with database.connect(APP) as app:
        run(app, "update articles set author_id = 2 where id = 2")
    assert world.findings(still=False) == []


def test_triggers_of_rows_that_follow_are_kept_quiet_too(blog: World) -> None:
    database = blog.database
    with database.connect(SUPERUSER) as superuser:
        run(superuser, f"grant set on parameter session_replication_role to {OWNER}")
    try:
        with database.connect(OWNER) as owner:
            run(
                owner,
                "create function loud() returns trigger language plpgsql as $$ begin raise 'ran'; end $$",
                "create trigger loud before update on comments for each row execute function loud()",
            )
        blog.apply("constrain")
        worlds.mirror_users(database, ["user_3"])
        with database.connect(APP) as app:
            run(app, "update users set clerk_id = 'user_3' where id = 1")
        blog.apply("constrain")
        assert blog.findings(still=False) == []
    finally:
        with database.connect(SUPERUSER) as superuser:
            run(superuser, f"revoke set on parameter session_replication_role from {OWNER}")
