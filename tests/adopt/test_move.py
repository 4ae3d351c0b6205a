"""A whole move: nothing is lost, every row ends with its owner's tenant, and the way back ends where it began."""

from __future__ import annotations

import pytest

from adopt import worlds
from adopt.comparing import state
from adopt.worlds import TEAMS, Watched, World, personal_tenant
from databases import APP, OWNER, SUPERUSER, Database
from sql.tenants import Connection, findings, read, refused, rows, run
from tenantry.adopt import move, ownership
from tenantry.adopt.plan import Decision, Rows
from tenantry.adopt.record import Entry
from tenantry.adopt.step import PHASES, Phase
from tenantry.errors import AdoptionRefused

WORLDS = ("publishing", "tracker", "handmade")


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, database: Database) -> World:
    made: World = getattr(worlds, request.param)(database)
    return made


def enter(connection: Connection, tenant_id: str) -> None:
    connection.execute("select tenantry.set_tenant_by_id_v1(%s, 'a test')", [tenant_id])


def test_before_a_move_there_is_nothing_to_find(one_database: Database) -> None:
    world = worlds.publishing(one_database)
    with one_database.connect(OWNER) as owner:
        report = move.check(owner, world.plan)
    assert (report.phase, report.clean) == (None, True)
    assert report.counts[0].before is None


def test_a_move_loses_nothing_and_gives_every_row_its_owners_tenant(world: World) -> None:
    for phase in PHASES:
        world.apply(phase)
        if phase != "expand":
            assert world.findings() == [], phase
    with world.database.connect(OWNER) as owner:
        kept = [(code, table) for code, table, _ in findings(owner) if table.partition("(")[0] != "tenantry_adopt"]
    assert {code for code, _ in kept} <= {"TC10", "TC12"}  # the article's slug stays global, lower(title) useless


@pytest.mark.parametrize("phase", PHASES[:-1])
def test_undone_from_any_phase_the_database_is_as_it_was(world: World, phase: Phase) -> None:
    before = state(world.database)
    world.apply(phase)
    world.undo()
    after = state(world.database)
    for what in before.keys() | after.keys():
        assert after.get(what) == before.get(what), what


def test_a_phase_is_undone_alone_and_done_again(world: World) -> None:
    world.apply("constrain")
    constrained = state(world.database)
    world.apply("isolate")
    world.undo("isolate")
    assert state(world.database) == constrained
    world.apply("contract")
    assert world.findings() == []


def test_after_contract_nothing_can_be_undone(database: Database) -> None:
    world = worlds.handmade(database)
    world.apply("contract")
    with pytest.raises(AdoptionRefused, match="contract has begun"):
        world.undo()


def test_users_see_their_own_articles_and_what_hangs_on_them(database: Database) -> None:
    world = worlds.publishing(database)
    world.apply("contract")
    tenant = personal_tenant(database, "user_2")
    with database.connect(APP) as app:
        with app.transaction():
            enter(app, tenant)
            assert rows(app, "select distinct author_id from articles") == [2]
            assert rows(app, "select distinct author_id from published") == [2]
            assert read(app, "select count(*) from comments") == 30
            assert read(app, "select count(*) from users") == worlds.USERS
            run(app, "insert into articles (author_id, slug, title) values (2, 'new', 'New')")
            assert read(app, "select tenant_id::text from articles where slug = 'new'") == tenant
        with refused("TY001"):
            app.execute("select * from articles")


def test_a_team_sees_its_members_projects_and_no_others(database: Database) -> None:
    world = worlds.tracker(database)
    world.apply("contract")
    counted = []
    with database.connect(APP) as app:
        for org_id in TEAMS.values():
            with app.transaction():
                enter(app, str(read(app, "select (tenantry.find_tenant(%s)).id", org_id)))
                counted.append(
                    [
                        read(app, f"select count(*) from {table}")
                        for table in ("projects", "issues", "labels", "issue_labels", '"TimeEntries"', "events")
                    ]
                )
    assert counted == [[3, 60, 6, 30, 60, 120]] * 3


def test_rows_that_name_clerks_organization_are_isolated_by_that_and_not_moved(database: Database) -> None:
    world = worlds.handmade(database)
    with database.connect(SUPERUSER) as superuser:
        before = rows(superuser, "select ctid::text from documents")
    world.apply("contract")
    with database.connect(SUPERUSER) as superuser:
        assert rows(superuser, "select ctid::text from documents") == before
        columns = (
            "select attname::text from pg_attribute where attrelid = %s::regclass and attname ~ 'tenant_id|org_id'"
        )
        assert rows(superuser, columns, "documents") == ["org_id"]
        assert rows(superuser, columns, "paragraphs") == ["org_id"]
        assert rows(superuser, columns, "invoices") == ["clerk_org_id"]
        assert rows(superuser, columns, "organizations") == ["clerk_org_id"]
    with database.connect(APP) as app, app.transaction():
        enter(app, str(read(app, "select (tenantry.find_tenant('org_one')).id")))
        assert read(app, "select count(*) from documents") == 20
        assert read(app, "select count(*) from paragraphs") == 20
        assert read(app, "select count(*) from invoices") == 1
        assert read(app, "select count(*) from invoice_lines") == 3
        assert rows(app, "select clerk_org_id from organizations") == ["org_one"]


def test_rows_follow_one_that_is_given_to_another_organization_until_isolation(database: Database) -> None:
    world = worlds.handmade(database)
    with database.connect(OWNER) as owner:
        run(
            owner,
            "create table words (paragraph_id bigint not null references paragraphs, text text not null)",
            "insert into words select id, 'word' from paragraphs",
            f"grant select, insert, update, delete on words to {APP}",
        )
    plan, _ = ownership.propose(worlds.schema_of(database), Rows())
    world = World(database, plan).with_plan(Decision("public.plans", "shared", mode="read"))
    with database.connect(APP) as app:
        for number, phase in enumerate(PHASES[:3], 1):
            world.apply(phase)
            title = f"Title {number}"
            change = (
                "update documents set org_id = 'org_two', title = title || '!' where org_id = 'org_one' and title = %s"
            )
            app.execute(change, [title])
            app.execute("update invoices set organization_id = 3 - organization_id where id = 1")
            lines = "select distinct p.org_id || w.org_id from documents d join paragraphs p on p.document_id = d.id"
            found = rows(app, f"{lines} join words w on w.paragraph_id = p.id where title = %s", f"{title}!")
            assert found == ([None] if phase == "expand" else ["org_twoorg_two"]), phase
    assert world.findings(still=False) == []
    with database.connect(OWNER) as owner:
        run(
            owner,
            "alter table documents alter org_id drop not null",
            "update documents set org_id = null, title = 'lone' where org_id = 'org_one' and title = 'Title 4'",
            "update documents set org_id = 'org_one' where title = 'lone'",
        )
    world.apply("contract")
    assert world.findings(still=False) == []


def test_a_row_may_be_given_to_another_organization_after_any_step_up_to_isolation(database: Database) -> None:
    world = worlds.handmade(database)
    with database.connect(APP) as app:
        run(
            app,
            "insert into documents (org_id, title) values ('org_one', 'only')",
            "insert into paragraphs (document_id, text) select id, 'text' from documents where title = 'only'",
        )

        class Giver(Watched):
            def end(self, entry: Entry, *, undo: bool) -> None:
                super().end(entry, undo=undo)
                other = "case org_id when 'org_one' then 'org_two' else 'org_one' end"
                run(app, f"update documents set org_id = {other} where title = 'only'")

        assert len(world.apply("constrain", Giver()).done) > 10
    assert world.findings(still=False) == []


def test_what_names_its_organization_by_a_number_can_name_no_other(database: Database) -> None:
    world = worlds.handmade(database)
    world.apply("isolate")
    with database.connect(APP) as app, refused("23503"), app.transaction():
        enter(app, str(read(app, "select (tenantry.find_tenant('org_one')).id")))
        run(app, "insert into invoices (organization_id, total) values (2, 5)")


def test_a_reference_to_the_row_of_another_organization_is_found_though_told_by_another_id(database: Database) -> None:
    world = worlds.handmade(database).with_plan(Decision("public.invoices", "owner", ("organization_id",)))
    world.apply("isolate")
    with database.connect(APP) as app, app.transaction():
        enter(app, str(read(app, "select (tenantry.find_tenant('org_one')).id")))
        run(app, "insert into invoices (organization_id, total) values (2, 5)")
    assert [(kind, table) for kind, table, _ in world.findings(still=False)] == [("crossing", "public.invoices")]


def test_an_app_that_knows_no_tenants_goes_on_until_isolation(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(APP) as app:
        for phase in PHASES[:3]:
            world.apply(phase)
            slug = f"written after {phase}"
            article = read(
                app, "insert into articles (author_id, slug, title) values (3, %s, 'New') returning id", slug
            )
            app.execute("insert into comments (article_id, author_id, body) values (%s, 4, 'text')", [article])
            app.execute("update articles set title = 'Newer' where id = %s", [article])
            app.execute("update articles set author_id = 5 where id = %s", [article])
    tenant = personal_tenant(database, "user_5")
    assert world.findings(still=False) == []
    with database.connect(OWNER) as owner:
        assert rows(owner, "select distinct tenant_id::text from articles where slug like 'written%'") == [tenant]
        comments = "select distinct c.tenant_id::text from comments c join articles a on a.id = article_id"
        assert rows(owner, f"{comments} where slug like 'written%'") == [tenant]


def test_who_signs_up_meanwhile_gets_a_tenant_too(database: Database) -> None:
    world = worlds.publishing(database)
    world.apply("expand")
    with database.connect(APP) as app:
        user = read(
            app,
            "insert into users (clerk_id, email, username) values ('user_new', 'new@example.com', 'new') returning id",
        )
        app.execute("insert into articles (author_id, slug, title) values (%s, 'first', 'First')", [user])
    world.apply("isolate")
    assert world.findings(still=False) == []
    with database.connect(APP) as app, app.transaction():
        enter(app, personal_tenant(database, "user_new"))
        assert rows(app, "select slug from articles") == ["first"]


def test_the_planner_knows_of_the_tenants_before_rows_that_follow_are_filled(database: Database) -> None:
    """Else it takes a column for one of nulls, and each batch reads the whole table that it follows."""
    world = worlds.publishing(database)
    world.apply("backfill")
    with database.connect(OWNER) as owner:
        nulls = "select null_frac from pg_stats where tablename = %s and attname = 'tenant_id'"
        assert {read(owner, nulls, table) for table in ("articles", "comments", "drafts")} == {0.0}


def test_an_app_whose_login_has_no_rights_in_tenantry_goes_on_too_and_cannot_reach_the_record(
    database: Database,
) -> None:
    world = worlds.publishing(database)
    login = f"legacy_{database.name}"
    with database.connect(SUPERUSER) as superuser:
        run(
            superuser,
            f"create role {login} login",
            f"grant select, insert, update, delete on all tables in schema public to {login}",
            f"grant usage on all sequences in schema public to {login}",
        )
        try:
            world.apply("constrain")
            run(
                superuser,
                f"set session authorization {login}",
                "insert into users (clerk_id, email, username) values ('user_7', '7@example.com', 'seven')",
                "insert into articles (author_id, slug, title) select max(id), 'legacy', 'L' from users",
                "insert into comments (article_id, body) select id, 'text' from articles where slug = 'legacy'",
            )
            for statement in ("select * from tenantry_adopt.steps", "update tenantry_adopt.steps set step = '{}'"):
                with refused("42501"):
                    run(superuser, statement)
            run(superuser, "reset session authorization")
            assert world.findings(still=False) == []
        finally:
            run(superuser, "reset session authorization", f"drop owned by {login}", f"drop role {login}")
