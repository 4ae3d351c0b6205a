"""What comes while a move is under way: companies that are added to its plan, and users who go to another one."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adopt import worlds
from adopt.comparing import state
from adopt.test_interruptions import Fragile, Killed
from adopt.test_load import SECONDS, THREADS
from adopt.worlds import PACE, TEAMS, Watched, World, personal_tenant
from databases import APP, OWNER, SUPERUSER, Database
from sql.tenants import read, rows, run
from tenantry.adopt import move
from tenantry.adopt.plan import Decision, Rows, Source
from tenantry.adopt.step import Phase
from tenantry.errors import AdoptionRefused

FOURTH = {**TEAMS, "4": "org_four"}


def sql(database: Database, *statements: str) -> None:
    with database.connect(APP) as app:
        run(app, *statements)


def sign_up(database: Database, team: int, name: str) -> None:
    """Somebody of a team comes, and has a project with two issues."""
    sql(
        database,
        f"insert into users (team_id, email) values ({team}, '{name}')",
        f"insert into projects (owner_id, key, name) select id, '{name}', 'Name' from users where email = '{name}'",
        f"insert into issues (project_id, number, title) select id, n, 'I' from projects, generate_series(1, 2) as n"
        f" where key = '{name}'",
    )


def add_team(world: World, number: int = 4) -> None:
    with world.database.connect(OWNER) as owner:
        run(owner, f"insert into teams values ({number}, 'Team {number}')")


def naming(world: World, organizations: dict[str, str]) -> World:
    worlds.mirror_organizations(world.database, organizations.values())
    return world.with_plan(rows=replace(world.plan.rows, organizations=organizations))


def organizations_of(world: World, name: str, table: str = "projects") -> set[str | None]:
    """Whose the rows are that hang on the project of somebody."""
    query = f"""
        select distinct t.clerk_org_id from {table} as a left join tenantry.tenants as t on t.id = a.tenant_id
        where {"a.key" if table == "projects" else "(select key from projects where id = a.project_id)"} = %s"""
    with world.database.connect(SUPERUSER) as superuser:
        return set(rows(superuser, query, name))


def kinds(world: World) -> list[tuple[str, str]]:
    return [(kind, table) for kind, table, _ in world.findings(still=False)]


@pytest.fixture
def world(database: Database) -> World:
    made = worlds.tracker(database)
    add_team(made)
    return made


# --- organizations that are added -------------------------------------------------------------------------------------


def test_a_company_that_the_plan_names_already_has_its_rows_at_once_when_its_first_user_comes(world: World) -> None:
    world = naming(world, FOURTH)
    world.apply("constrain")
    sign_up(world.database, 4, "first")
    assert organizations_of(world, "first") == organizations_of(world, "first", "issues") == {"org_four"}
    world.apply("isolate")
    assert world.findings(still=False) == []


@pytest.mark.parametrize("phase", ["expand", "backfill", "constrain"])
def test_a_company_that_comes_in_any_phase_is_added_to_the_plan_and_goes_along(world: World, phase: Phase) -> None:
    world.apply(phase)
    sign_up(world.database, 4, "before")
    assert organizations_of(world, "before") == {None}
    if phase != "expand":
        assert kinds(world)[-1] == ("unnamed", "public.users")
        assert ("null", "public.projects") in kinds(world)
        with pytest.raises(AdoptionRefused) as refused:
            world.apply("isolate")
        assert "No organization is named for team_id 4: name it in [rows.organizations]" in str(refused.value)
    world = naming(world, FOURTH)
    watched = world.apply(phase)
    assert ("fill tenant_id of public.projects" in watched.done) == (phase != "expand")
    sign_up(world.database, 4, "after")
    assert organizations_of(world, "after") == organizations_of(world, "after", "issues") == {"org_four"}
    world.apply("constrain")
    assert organizations_of(world, "before") == organizations_of(world, "before", "issues") == {"org_four"}
    assert world.findings(still=False) == []
    assert world.apply("constrain").done == []  # and nothing is done twice
    world.apply("contract")
    assert world.findings(still=False) == []


def test_a_company_may_be_added_in_the_run_that_isolates(world: World) -> None:
    world.apply("constrain")
    sign_up(world.database, 4, "late")
    world = naming(world, FOURTH)
    world.apply("isolate")
    assert world.findings(still=False) == []
    assert organizations_of(world, "late") == {"org_four"}


def test_a_line_more_in_the_file_is_an_organization_more(database: Database, tmp_path: Path) -> None:
    world = worlds.tracker(database)
    add_team(world)
    file = tmp_path / "teams.csv"
    file.write_text("".join(f"{team},{org_id}\n" for team, org_id in TEAMS.items()))
    world = world.with_plan(rows=replace(world.plan.rows, organizations={}, csv=str(file)))
    world.apply("constrain")
    sign_up(database, 4, "new")
    worlds.mirror_organizations(database, ["org_four"])
    file.write_text(file.read_text() + "4,org_four\n")
    world.apply("isolate")
    assert world.findings(still=False) == []
    assert organizations_of(world, "new") == {"org_four"}


def test_the_file_may_be_named_when_the_first_organization_is_added(world: World, tmp_path: Path) -> None:
    world.apply("constrain")
    sign_up(world.database, 4, "new")
    worlds.mirror_organizations(world.database, ["org_four"])
    file = tmp_path / "more.csv"
    file.write_text("4,org_four\n")
    world = world.with_plan(rows=replace(world.plan.rows, csv=str(file)))
    world.apply("isolate")
    assert organizations_of(world, "new") == {"org_four"}


def test_a_user_more_in_the_file_of_owners_gets_rows(database: Database, tmp_path: Path) -> None:
    world = worlds.publishing(database)
    worlds.mirror_organizations(database, ["org_a"])
    owners = tmp_path / "owners.csv"
    owners.write_text("".join(f"{n},org_a\n" for n in range(1, worlds.USERS + 1)))
    world = world.with_plan(rows=Rows(to="csv", csv=str(owners)))
    world.apply("constrain")
    sql(database, "insert into users (clerk_id, email, username) values ('user_7', '7', '7')")
    sql(database, "insert into articles (author_id, slug, title) select id, 'x', 'x' from users where email = '7'")
    assert [told for kind, _, told in world.findings(still=False) if kind == "unnamed"] == [
        f"id 7 is not in {owners}: add it, then run `tenantry adopt apply`. Their rows wait."
    ]
    owners.write_text(owners.read_text() + "7,org_a\n")
    world.apply("isolate")
    assert world.findings(still=False) == []


@pytest.mark.parametrize("where", ["csv", "email"])
def test_who_comes_is_found_in_the_file_or_the_mirror_by_the_next_run(
    database: Database, tmp_path: Path, where: str
) -> None:
    world = worlds.publishing(database)
    users = tmp_path / "users.csv"
    users.write_text("".join(f"{n},user_{n}\n" for n in range(1, worlds.USERS + 1)))
    with database.connect(OWNER) as owner:
        run(owner, "update users set email = clerk_id || '@example.com'")
    source = (
        Source("public.users", "id", csv=str(users)) if where == "csv" else Source("public.users", "id", email="email")
    )
    world = world.with_plan(users=source)
    world.apply("constrain")
    worlds.mirror_users(database, ["user_7"])
    users.write_text(users.read_text() + "7,user_7\n")
    sql(
        database,
        "insert into users (clerk_id, email, username) values ('user_7', 'user_7@example.com', '7')",
        "insert into articles (author_id, slug, title) values (7, 'x', 'x')",
    )
    assert ("null", "public.articles") in kinds(world)
    world.apply("isolate")
    assert world.findings(still=False) == []
    with database.connect(SUPERUSER) as superuser:
        tenant = read(superuser, "select tenant_id::text from articles where slug = 'x'")
    assert tenant == personal_tenant(database, "user_7")


def test_a_line_more_in_the_file_of_the_apps_own_organizations_is_taken_up(database: Database, tmp_path: Path) -> None:
    world = worlds.handmade(database)
    with database.connect(OWNER) as owner:
        run(owner, "alter table organizations alter column clerk_org_id drop not null")
    file = tmp_path / "organizations.csv"
    file.write_text("1,org_one\n2,org_two\n")
    shared = Decision("public.organizations", "shared", mode="read")
    named = Decision("public.invoices", "owner", ("organization_id",))
    world = world.with_plan(shared, named, organizations=Source("public.organizations", "id", csv=str(file)))
    world.apply("constrain")
    sql(
        database,
        "insert into organizations (name) values ('Three')",
        "insert into invoices (organization_id, total) values (3, 1)",
    )
    assert kinds(world) == [("null", "public.invoices"), ("unnamed", "public.organizations")]
    worlds.mirror_organizations(database, ["org_three"])
    file.write_text(file.read_text() + "3,org_three\n")
    world.apply("isolate")
    assert world.findings(still=False) == []


def test_who_gets_the_rest_may_be_named_later(world: World) -> None:
    world.apply("constrain")
    sign_up(world.database, 4, "before")
    worlds.mirror_organizations(world.database, ["org_rest"])
    world = world.with_plan(rows=replace(world.plan.rows, rest="org_rest"))
    assert ("null", "public.projects") in kinds(world)
    world.apply("constrain")
    sign_up(world.database, 4, "after")
    for name in ("before", "after"):
        assert organizations_of(world, name) == organizations_of(world, name, "issues") == {"org_rest"}
    assert world.findings(still=False) == []
    world = naming(world, FOURTH)
    world.apply("constrain")  # rows of the rest follow when their company is named
    for name in ("before", "after"):
        assert organizations_of(world, name) == organizations_of(world, name, "issues") == {"org_four"}
    world.apply("isolate")
    assert world.findings(still=False) == []


def test_rows_that_are_written_before_the_users_are_looked_up_are_no_rest(database: Database) -> None:
    world = worlds.tracker(database)
    worlds.mirror_organizations(database, ["org_rest"])
    world = world.with_plan(rows=replace(world.plan.rows, rest="org_rest"))
    world.apply("expand")
    sql(
        database,
        "insert into projects (owner_id, key, name) select id, 'soon', 'S' from users where team_id = 2 limit 1",
    )
    world.apply("constrain")
    assert organizations_of(world, "soon") == {"org_two"}
    assert world.findings(still=False) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"organizations": {**TEAMS, "2": "org_four"}},
            "[rows.organizations]: 2 was org_two when the move began, and is org_four. Put it back.",
        ),
        (
            {"organizations": {"1": "org_one", "3": "org_three"}},
            "[rows.organizations]: 2 was org_two when the move began, and is gone. Put it back.",
        ),
        ({"organizations": {**TEAMS, "4": "org_lost"}}, "[rows.organizations]: org_lost is not in the mirror."),
        ({"organizations": {**TEAMS, "4": "acme"}}, "[rows.organizations]: acme is no Clerk id."),
        ({"rest": "org_four"}, "[rows]: rest was org_one when the move began. Put it back."),
        ({"rest": ""}, "[rows]: rest was org_one when the move began. Put it back."),
        ({"column": "email"}, "[rows] is not as it was."),
    ],
)
def test_what_is_changed_or_lost_is_told_and_changes_nothing(
    world: World, changes: dict[str, object], sentence: str
) -> None:
    worlds.mirror_organizations(world.database, ["org_four"])
    world = world.with_plan(rows=replace(world.plan.rows, rest="org_one"))
    world.apply("constrain")
    before = state(world.database)
    with pytest.raises(AdoptionRefused) as refused:
        world.with_plan(rows=replace(world.plan.rows, **changes)).apply("constrain")  # type: ignore[arg-type]
    assert sentence in str(refused.value)
    assert state(world.database) == before


def test_undone_after_something_was_added_the_database_is_as_it_was(world: World) -> None:
    before = state(world.database)
    world.apply("constrain")
    world = naming(world, FOURTH).with_plan(rows=replace(world.plan.rows, organizations=FOURTH, rest="org_one"))
    world.apply("constrain")
    world.apply("isolate")
    world.undo()
    after = state(world.database)
    for what in before.keys() | after.keys():
        assert after.get(what) == before.get(what), what


def test_behind_isolation_the_plans_organizations_matter_no_more(world: World) -> None:
    world.apply("isolate")
    naming(world, {"1": "org_one", "4": "org_four"}).apply("contract")
    assert world.findings(still=False) == []


def test_killed_at_every_statement_of_an_addition_the_next_run_goes_on(one_database: Database) -> None:
    world = worlds.tracker(one_database)
    add_team(world)
    world.apply("constrain")
    sign_up(one_database, 4, "new")
    with one_database.connect(OWNER) as owner:
        run(owner, "update users set team_id = 1 + team_id % 3 where email ~ '^[12]@'")
    world = naming(world, FOURTH)
    kills = 0
    for left in count():
        with Fragile.connect(one_database.dsn(OWNER), autocommit=True) as connection:
            assert isinstance(connection, Fragile)
            connection.statements_left = left
            try:
                move.apply(connection, world.plan, "constrain", PACE, Watched())
            except Killed:
                kills += 1
                continue
        break
    assert kills > 60
    assert world.findings(still=False) == []
    assert organizations_of(world, "new") == organizations_of(world, "new", "issues") == {"org_four"}
    assert world.apply("constrain").done == []
    world.apply("contract")
    assert world.findings(still=False) == []


# --- users who go to another company ----------------------------------------------------------------------------------


def go(world: World, name: str, team: int) -> None:
    sql(world.database, f"update users set team_id = {team} where email = '{name}'")


def test_a_user_who_goes_to_another_company_has_new_rows_there_at_once_and_those_of_before_follow(world: World) -> None:
    world.apply("constrain")
    sign_up(world.database, 1, "mover")
    go(world, "mover", 2)
    assert organizations_of(world, "mover") == {"org_one"}
    sql(
        world.database,
        "insert into projects (owner_id, key, name) select id, 'new', 'N' from users where email = 'mover'",
    )
    assert organizations_of(world, "new") == {"org_two"}
    assert world.findings(still=False) == [
        ("waiting", "public.projects", "1 rows wait for the next `tenantry adopt apply`."),
        ("waiting", "public.issues", "2 rows wait for the next `tenantry adopt apply`."),
    ]
    world.apply("constrain")
    assert organizations_of(world, "mover") == organizations_of(world, "mover", "issues") == {"org_two"}
    assert world.findings(still=False) == []
    assert world.apply("constrain").done == []


def test_a_user_who_goes_and_comes_back_or_goes_on_leaves_no_row_behind(world: World) -> None:
    world.apply("constrain")
    sign_up(world.database, 1, "back")
    sign_up(world.database, 1, "on")
    go(world, "on", 2)
    sql(
        world.database, "insert into projects (owner_id, key, name) select id, 'two', 'T' from users where email = 'on'"
    )
    go(world, "on", 3)
    go(world, "back", 2)
    go(world, "back", 1)
    world.apply("isolate")
    assert world.findings(still=False) == []
    assert organizations_of(world, "on") == organizations_of(world, "two") == {"org_three"}
    assert organizations_of(world, "back") == {"org_one"}


def test_a_user_who_goes_to_a_company_that_nobody_has_named_waits_for_it(world: World) -> None:
    world.apply("constrain")
    sign_up(world.database, 1, "pioneer")
    go(world, "pioneer", 4)
    sql(
        world.database,
        "insert into projects (owner_id, key, name) select id, 'new', 'N' from users where email = 'pioneer'",
    )
    assert organizations_of(world, "new") == {None}
    told = world.findings(still=False)
    assert ("waiting", "public.issues", "2 rows wait: no organization is named yet where their user has gone.") in told
    assert ("null", "public.projects", "1 rows have no tenant.") in told
    with pytest.raises(AdoptionRefused, match="have no tenant"):
        world.apply("isolate")
    world = naming(world, FOURTH)
    world.apply("isolate")
    assert world.findings(still=False) == []
    assert organizations_of(world, "pioneer") == organizations_of(world, "new") == {"org_four"}


def test_rows_that_the_new_app_wrote_for_another_organization_do_not_follow(world: World) -> None:
    world.apply("constrain")
    sign_up(world.database, 1, "mover")
    with world.database.connect(APP) as app, app.transaction():
        third = read(app, "select (tenantry.find_tenant('org_three')).id::text")
        run(app, f"select tenantry.set_tenant_by_id_v1('{third}', 'a test')")
        run(app, "insert into projects (owner_id, key, name) select id, 'third', 'T' from users where email = 'mover'")
    go(world, "mover", 2)
    world.apply("constrain")
    assert organizations_of(world, "mover") == {"org_two"}
    assert organizations_of(world, "third") == {"org_three"}
    assert kinds(world) == [("tenant", "public.projects")]


def test_rows_follow_in_batches_that_keep_the_apps_own_triggers_quiet(world: World) -> None:
    with world.database.connect(SUPERUSER) as superuser:
        run(superuser, f"grant set on parameter session_replication_role to {OWNER}")
    try:
        with world.database.connect(OWNER) as owner:
            run(
                owner,
                "create function loud() returns trigger language plpgsql as $$ begin raise 'ran'; end $$",
                "create trigger loud before update on projects for each row execute function loud()",
            )
        world.apply("constrain")
        sign_up(world.database, 1, "mover")
        go(world, "mover", 2)
        world.apply("isolate")
        assert organizations_of(world, "mover") == organizations_of(world, "mover", "issues") == {"org_two"}
        assert world.findings(still=False) == []
    finally:
        with world.database.connect(SUPERUSER) as superuser:
            run(superuser, f"revoke set on parameter session_replication_role from {OWNER}")


def test_who_is_known_to_clerk_later_has_the_rows_of_before_too(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(owner, "alter table users alter column clerk_id drop not null")
    world.apply("constrain")
    worlds.mirror_users(database, ["user_late"])
    sql(
        database,
        "insert into users (email, username) values ('late', 'late')",
        "insert into articles (author_id, slug, title) select id, 'late', 'L' from users where email = 'late'",
    )
    assert [told for kind, _, told in world.findings(still=False) if kind == "unnamed"] == [
        "Of 1 rows clerk_id holds no Clerk id: fill it. Their rows wait."
    ]
    sql(database, "update users set clerk_id = 'user_late' where email = 'late'")
    assert kinds(world) == [("waiting", "public.articles")]
    world.apply("constrain")
    assert world.findings(still=False) == []
    with database.connect(OWNER) as owner:
        tenant = read(owner, "select tenant_id::text from articles where slug = 'late'")
    assert tenant == personal_tenant(database, "user_late")


def test_a_transaction_that_began_before_is_waited_for_and_its_row_follows(world: World) -> None:
    world.apply("constrain")
    sign_up(world.database, 1, "mover")
    with world.database.connect(APP, autocommit=False) as slow:
        slow.execute("set transaction isolation level repeatable read")
        slow.execute("select 1 from users")  # it sees the user where they were
        go(world, "mover", 2)
        mover = threading.Thread(target=world.apply, args=("constrain",), daemon=True)
        mover.start()
        mover.join(timeout=1)
        assert mover.is_alive()
        slow.execute(
            "insert into projects (owner_id, key, name) select id, 'slow', 'S' from users where email = 'mover'"
        )
        slow.commit()
    mover.join(timeout=SECONDS)
    assert not mover.is_alive()
    assert organizations_of(world, "slow") == {"org_two"}
    assert world.findings(still=False) == []


def test_an_app_that_waits_for_no_lock_is_known_to_have_sent_somebody_elsewhere(world: World) -> None:
    world.apply("constrain")
    sign_up(world.database, 1, "mover")
    with world.database.connect(OWNER, autocommit=False) as batch, world.database.connect(APP) as app:
        batch.execute("select from tenantry_adopt.tenants_of_users for update")
        threading.Timer(0.3, batch.commit).start()
        run(app, "set lock_timeout = '20ms'", "update users set team_id = 2 where email = 'mover'")
        assert read(app, "show lock_timeout") == "20ms"
    assert ("waiting", "public.projects") in kinds(world)


def test_a_transaction_that_does_not_end_is_told(world: World) -> None:
    world.apply("constrain")
    sign_up(world.database, 1, "mover")
    go(world, "mover", 2)
    with world.database.connect(APP, autocommit=False) as slow:
        slow.execute("select 1 from users")
        with pytest.raises(AdoptionRefused, match="were open"):
            world.apply("constrain", pace=replace(PACE, patience=0.2))
    world.apply("constrain")
    assert organizations_of(world, "mover") == {"org_two"}


def test_whoever_comes_and_goes_in_whatever_order_has_their_rows_where_they_are_in_the_end(
    one_database: Database,
) -> None:
    """Teams 1 to 3 are known, others come, and are named sooner or later."""
    world = worlds.tracker(one_database)
    worlds.mirror_organizations(one_database, [f"org_{team}" for team in range(4, 9)])
    with one_database.connect(OWNER) as owner:
        run(owner, "insert into teams select n, 'Team ' || n from generate_series(4, 8) as n")
    world.apply("constrain")
    names, named = count(), dict(TEAMS)
    teams = st.integers(1, 8)
    happen = st.one_of(
        st.tuples(st.just("sign up"), teams, st.just(0)),
        st.tuples(st.just("go"), teams, st.integers(0, 20)),
        st.tuples(st.just("name"), st.integers(4, 8), st.just(0)),
        st.tuples(st.just("apply"), st.just(0), st.just(0)),
    )

    @settings(max_examples=12, deadline=None)
    @given(st.lists(happen, max_size=6))
    def check(happenings: list[tuple[str, int, int]]) -> None:
        for what, team, who in happenings:
            if what == "sign up":
                sign_up(one_database, team, f"user-{next(names)}")
            elif what == "go":
                go(world, f"user-{who}", team)
            elif what == "name":
                named[str(team)] = f"org_{team}"
            else:
                naming_all(named).apply("constrain")
        naming_all(named).apply("constrain")
        told = naming_all(named).findings(still=False)
        assert {kind for kind, *_ in told} <= {"null", "unnamed", "waiting"}, told
        assert not any("next `tenantry adopt apply`." in message for kind, _, message in told if kind == "waiting")

    def naming_all(organizations: dict[str, str]) -> World:
        return world.with_plan(rows=replace(world.plan.rows, organizations=dict(organizations)))

    check()
    everything = naming_all({**named, **{str(team): f"org_{team}" for team in range(4, 9)}})
    everything.apply("isolate")
    assert everything.findings(still=False) == []


# --- while the app goes on --------------------------------------------------------------------------------------------


class Busy:
    """The unmodified app: people sign up, go to other teams and write, a transaction each, from several connections."""

    def __init__(self, database: Database, teams: int) -> None:
        self.database = database
        self.teams = teams
        self.failures: list[str] = []
        self.done = 0
        self.stop = threading.Event()

    def work(self, seed: int) -> None:
        for number in count():
            if self.stop.is_set():
                return
            name, team = f"{seed}-{number}", 1 + number % self.teams
            try:
                sign_up(self.database, team, name)
                go_on = f"update users set team_id = 1 + team_id % {self.teams} where email = '{seed}-{number // 2}'"
                sql(self.database, go_on)
            except psycopg.Error as error:
                self.failures.append(f"{type(error).__name__} {error}")
            self.done += 1
            time.sleep(0.002)

    def __enter__(self) -> Busy:
        self.threads = [threading.Thread(target=self.work, args=(seed,), daemon=True) for seed in range(THREADS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(timeout=SECONDS)
        assert not any(thread.is_alive() for thread in self.threads)


def test_companies_are_added_while_people_sign_up_and_go_elsewhere_and_no_request_fails(database: Database) -> None:
    world = worlds.tracker(database)
    add_team(world)
    world.apply("expand")
    with Busy(database, teams=4) as app:
        world.apply("constrain")
        world = naming(world, FOURTH)
        world.apply("constrain")
        world.apply("constrain")
        assert {kind for kind, _ in kinds(world)} <= {"waiting"}
    assert app.failures == []
    assert app.done > 20
    world.apply("isolate")
    assert world.findings(still=False) == []
