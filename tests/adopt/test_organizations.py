"""Organizations that a plan needs, made in Clerk: once each, whatever breaks, with their members, and mirrored."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from adopt import worlds
from adopt.worlds import PACE, Watched
from databases import OWNER, Database
from reconciling import Query, World, clerk_world
from sql.tenants import rows
from tenantry.adopt import config, move, organizations
from tenantry.adopt.organizations import MARK, Outcome, Wish
from tenantry.adopt.plan import Plan, Rows, Source
from tenantry.errors import AdoptionRefused, ClerkUnavailable, WrongInstance

TEAMS = 3
USERS = 9


@dataclass
class Place:
    """A tracker whose users are Clerk's, and whose teams are no organizations yet."""

    clerk: World
    folder: Path
    told: list[Outcome] = field(default_factory=list)

    @property
    def database(self) -> Database:
        return self.clerk.database

    @property
    def plan(self) -> Plan:
        rows = Rows(to="column", column="team_id", csv=str(self.folder / "organizations.csv"))
        plan = worlds.tracker_plan(worlds.schema_of(self.database))
        return replace(plan, rows=rows, users=Source("public.users", "id", "clerk_id"))

    def provide(self, plan: Plan | None = None, *, dry_run: bool = False, **wish: Any) -> list[Outcome]:
        return asyncio.run(asyncio.wait_for(self._provide(plan or self.plan, Wish(**wish), dry_run=dry_run), 60))

    async def _provide(self, plan: Plan, wish: Wish, *, dry_run: bool) -> list[Outcome]:
        with self.database.connect(OWNER) as connection, move.as_owner(connection, plan) as schema:
            wanted = organizations.collect(connection, plan, schema, wish)
            async with self.clerk.api() as api:
                done = await organizations.provide(api, connection, wanted, wish, self.told.append, dry_run=dry_run)
            if not dry_run:
                organizations.note(plan, wanted, connection)
            return done

    def at_clerk(self) -> dict[str, dict[str, str]]:
        """Members with their roles by the names of organizations; two of a name would be a mistake of ours."""
        state = self.clerk.emulator.store.state
        names = [one.name for one in state.organizations.values()]
        assert len(names) == len(set(names)), names
        return {
            one.name: {m.user_id: state.roles[m.role_id].key for m in state.memberships_of(one.id)}
            for one in state.organizations.values()
        }

    def check_mirror(self) -> None:
        """What is of organizations; roles and the users of nobody are reconcile's."""
        truth, mirrored = self.clerk.truth(), self.clerk.mirrored()
        assert mirrored["organizations"] == truth["organizations"]
        assert mirrored["memberships"] == truth["memberships"]

    def wanted(self) -> dict[str, dict[str, str]]:
        query = "select array['Team ' || team_id, clerk_id, role] from users"
        found: dict[str, dict[str, str]] = {}
        with self.database.connect(OWNER) as owner:
            for team, user_id, role in rows(owner, query):
                found.setdefault(team, {})[user_id] = f"org:{role}"
        return found

    def run(self, *statements: str) -> None:
        with self.database.connect(OWNER) as owner:
            for statement in statements:
                owner.execute(statement.encode())


@pytest.fixture
def place(database: Database, tmp_path: Path) -> Iterator[Place]:
    worlds.load(database, "tracker")
    with clerk_world(database) as clerk:
        made = Place(clerk, tmp_path)
        made.run(
            "insert into teams select n, 'Team ' || n from generate_series(1, 3) as n",
            "alter table users add column clerk_id text unique, add column role text",
        )
        with database.connect(OWNER) as owner:
            for number in range(USERS):
                owner.execute(
                    "insert into users (team_id, email, clerk_id, role) values (%s, %s, %s, %s)",
                    [1 + number % TEAMS, f"u{number}@example.com", clerk.user(f"u{number}"), _role(number)],
                )
        yield made


def _role(number: int) -> str:
    return "admin" if number < TEAMS else "member"


def test_each_value_gets_its_organization_with_its_members_in_clerk_and_in_the_mirror(place: Place) -> None:
    done = place.provide(role_column="role")
    assert [(each.key, each.how, each.joined, each.problem) for each in done] == [
        (key, "created", 3, "") for key in ("1", "2", "3")
    ]
    assert place.at_clerk() == place.wanted()
    assert all(each.led for each in done)
    place.check_mirror()
    assert config.read_pairs(place.plan.rows.csv) == {each.key: each.org_id for each in done}


def test_a_second_run_changes_nothing_and_adds_who_came_since(place: Place) -> None:
    first = place.provide(role_column="role")
    again = place.provide(role_column="role")
    assert [(each.org_id, each.how, each.joined) for each in again] == [(each.org_id, "adopted", 0) for each in first]
    place.run(
        f"insert into users (team_id, email, clerk_id, role) values (2, 'n', '{place.clerk.user('new')}', 'member')"
    )
    assert [each.joined for each in place.provide(role_column="role")] == [0, 1, 0]
    assert place.at_clerk() == place.wanted()


def test_a_dry_run_says_what_would_be_and_changes_nothing(place: Place) -> None:
    done = place.provide(dry_run=True)
    assert [(each.name, each.how, each.joined, each.led) for each in done] == [
        (f"Team {n}", "missing", 3, False) for n in (1, 2, 3)
    ]
    assert place.at_clerk() == {}
    assert not Path(place.plan.rows.csv).exists()
    with place.database.connect(OWNER) as owner:
        assert rows(owner, "select to_regclass('tenantry_adopt.organizations')::text") == [None]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_answers_that_say_nothing_make_nothing_twice(place: Place, status: int) -> None:
    """Every first answer of a kind is replaced, after what was asked for has been done."""
    spoiled: dict[str, int] = {}

    def spoil(path: str, query: Query, answered: int, body: bytes) -> tuple[int, bytes]:
        spoiled[path] = spoiled.get(path, 0) + 1
        return (status, b"{}") if spoiled[path] % 3 == 1 else (answered, body)

    place.clerk.faults.answer = spoil
    done = place.provide(role_column="role")
    assert [each.problem for each in done] == ["", "", ""]
    assert place.at_clerk() == place.wanted()


def test_killed_between_making_and_recording_it_finds_by_the_mark_what_it_made(place: Place) -> None:
    _write_plan(place)
    victims: list[subprocess.Popen[bytes]] = []

    def kill(path: str, query: Query, status: int, body: bytes) -> tuple[int, bytes]:
        if path == "/organizations" and not query:  # nobody has heard yet that it was made
            victims[0].kill()
        return status, body

    place.clerk.faults.answer = kill
    victims.append(subprocess.Popen(_COMMAND, cwd=place.folder, env=_environment(place)))
    assert victims[0].wait(60) == -signal.SIGKILL
    assert list(place.at_clerk()) == ["Team 1"]
    place.clerk.faults.answer = lambda path, query, status, body: (status, body)
    done = place.provide(role_column="role")
    assert [each.how for each in done] == ["found", "created", "created"]
    assert place.at_clerk() == place.wanted()


def test_marks_are_of_this_database_and_key_alone(place: Place) -> None:
    store = place.clerk.emulator.store
    store.organizations.create("Other", private_metadata={MARK: {"of": "elsewhere/public.users.team_id", "key": "1"}})
    assert [each.how for each in place.provide()] == ["created"] * 3


def test_what_the_plan_names_is_taken_as_it_is(place: Place) -> None:
    admin = place.clerk.user("boss")
    taken = place.clerk.organization("Acme", admin)
    plan = replace(place.plan, rows=replace(place.plan.rows, organizations={"1": taken}))
    done = place.provide(plan)
    assert [(each.how, each.led) for each in done] == [("adopted", True), ("created", False), ("created", False)]
    assert place.at_clerk()["Acme"][admin] == "org:admin"
    assert len(place.at_clerk()["Acme"]) == 4
    assert config.read_pairs(plan.rows.csv).keys() == {"2", "3"}


def test_one_organization_is_made_for_everybody(place: Place) -> None:
    (made,) = place.provide(name="Acme")
    assert (made.how, made.members, made.joined) == ("created", USERS, USERS)
    (again,) = place.provide(name="Acme")
    assert (again.how, again.org_id) == ("found", made.org_id)


def test_the_move_goes_on_with_what_was_made(place: Place) -> None:
    plan = place.plan
    place.provide()
    place.run("insert into projects (owner_id, key, name) select id, 'P' || id, 'Name' from users")
    with place.database.connect(OWNER) as connection:
        move.apply(connection, plan, "contract", PACE, Watched())
        report = move.check(connection, plan, still=True)
    assert report.findings == ()


def test_what_comes_while_the_move_is_under_way_is_made_and_taken_up(place: Place) -> None:
    plan = place.plan
    place.provide()
    with place.database.connect(OWNER) as connection:
        move.apply(connection, plan, "constrain", PACE, Watched())
    place.run(
        "insert into teams values (4, 'Team 4')",
        f"insert into users (team_id, email, clerk_id) values (4, 'n', '{place.clerk.user('new')}')",
        "insert into projects (owner_id, key, name) select id, 'new', 'Name' from users where team_id = 4",
    )
    assert [(each.key, each.how) for each in place.provide()][-1] == ("4", "created")
    with place.database.connect(OWNER) as connection:
        move.apply(connection, plan, "isolate", PACE, Watched())
        assert move.check(connection, plan).findings == ()
        move.apply(connection, plan, "contract", PACE, Watched())


def test_undo_leaves_no_trace_of_the_record(place: Place) -> None:
    plan = place.plan
    place.provide()
    with place.database.connect(OWNER) as connection:
        move.apply(connection, plan, "constrain", PACE, Watched())
        move.undo(connection, "expand", PACE, Watched())
        assert rows(connection, "select count(*) from pg_namespace where nspname = 'tenantry_adopt'") == [0]
    assert [each.how for each in place.provide()] == ["adopted"] * 3  # the file still names them


def test_a_limit_of_members_is_told_and_the_others_go_on(place: Place) -> None:
    done = place.provide(most=2)
    assert all("organization_membership_quota_exceeded" in each.problem for each in done)
    assert [each.joined for each in done] == [2, 2, 2]
    place.check_mirror()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("update users set clerk_id = null where team_id = 2", "3 of public.users have no Clerk id"),
        (
            "update users set role = 'king' where team_id = 2",
            "Clerk has no role org:king; it has org:admin, org:member",
        ),
        ("alter table users drop column role", "public.users has no column role"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(place: Place, statement: str, told: str) -> None:
    place.run(statement)
    with pytest.raises(AdoptionRefused) as refused:
        place.provide(role_column="role")
    assert told in str(refused.value)
    assert place.at_clerk() == {}


def test_users_without_an_id_are_left_out_on_request_and_strangers_are_told(place: Place) -> None:
    place.run(
        "update users set clerk_id = null where email = 'u0@example.com'",
        "update users set clerk_id = 'user_gone' where email = 'u8@example.com'",
    )
    problems = [each.problem for each in place.provide(partly=True)]
    assert "user_gone is not a user of this Clerk instance." in problems
    assert sum(len(members) for members in place.at_clerk().values()) == USERS - 2


def test_an_organization_that_clerk_has_not_and_a_plan_without_a_file_are_told(place: Place) -> None:
    for rows_, told in (
        (replace(place.plan.rows, organizations={"1": "org_none"}), "Clerk has no organization org_none"),
        (replace(place.plan.rows, csv=""), "There is no file for the ids"),
        (Rows(to="personal"), "needs no organizations"),
    ):
        with pytest.raises(AdoptionRefused) as refused:
            place.provide(replace(place.plan, rows=rows_))
        assert told in str(refused.value)
    assert place.at_clerk() == {}


def test_another_instance_and_a_clerk_that_is_away_are_told_before_anything_is_made(place: Place) -> None:
    place.clerk.faults.answer = lambda path, query, status, body: (503, b"")
    with pytest.raises(ClerkUnavailable, match="did not answer properly"):
        place.provide()
    place.clerk.faults.answer = lambda path, query, status, body: (status, body)
    worlds.mirror_users(place.database, ["user_1"])  # binds the database to the tests' own instance
    with pytest.raises(WrongInstance, match="this database mirrors"):
        place.provide()
    assert place.at_clerk() == {}


def test_the_command_makes_them_says_what_is_next_and_has_a_sentence_for_each_mistake(place: Place) -> None:
    _write_plan(place)
    dry = _command(place, "--dry-run")
    assert "1: Team 1  to be created, 3 of 3 members new\n  nobody in it is org:admin" in dry.stdout, dry.stderr
    done = _command(place, "--role-column", "role")
    assert done.returncode == 0, done.stderr
    assert "Wrote organizations.csv.\nNext: tenantry adopt plan\n" in done.stdout
    assert place.at_clerk() == place.wanted()
    away = _command(place, CLERK_SECRET_KEY="sk_test_wrong")
    assert away.returncode == 1
    assert "Error: Clerk refused /instance with 401" in away.stderr
    assert "Traceback" not in dry.stderr + done.stderr + away.stderr


def test_one_for_everybody_is_made_for_a_plan_that_waits_for_it(place: Place) -> None:
    """As `plan --to organization` writes it, where there is none yet."""
    plan = replace(place.plan, rows=Rows(to="organization"))
    (place.folder / "adopt.toml").write_text(config.write(plan, {}), encoding="utf-8")
    nameless = _command(place)
    assert nameless.returncode == 1
    assert "[rows] names no organization." in nameless.stderr
    made = _command(place, "--name", "Harbor & Pine")
    assert made.returncode == 0, made.stderr
    assert list(place.at_clerk()) == ["Harbor & Pine"]
    [org_id] = place.clerk.emulator.store.state.organizations
    assert f'[rows]: to = "organization", organization = "{org_id}"' in made.stdout


_COMMAND = [sys.executable, "-m", "tenantry", "adopt", "organizations"]


def _write_plan(place: Place) -> None:
    plan = replace(place.plan, rows=replace(place.plan.rows, csv="organizations.csv"))
    (place.folder / "adopt.toml").write_text(config.write(plan, {}), encoding="utf-8")


def _environment(place: Place, **changes: str) -> dict[str, str]:
    return {
        "CLERK_SECRET_KEY": place.clerk.settings.secret_key or "",
        "CLERK_API_URL": place.clerk.settings.api_url,
        "DATABASE_URL": place.database.dsn(OWNER),
        "TENANTRY_CLERK_BUDGET": "100",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    } | changes


def _command(place: Place, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=place.folder,
        env=_environment(place, **changes),
    )
