"""`tenantry status`: each finding is provoked, named with the command to type, and gone once that was typed."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from databases import OWNER, SUPERUSER, Server
from instance import fresh_database
from reconciling import World, clerk_world
from sql.clerk_objects import event, user
from tenantry import mirror
from tenantry.cli import app, main
from tenantry.database import connect, run
from tenantry.errors import ConfigurationError


@dataclass
class Terminal:
    """Types commands in the environment of a world's app."""

    world: World

    def type(self, command: str, **environment: str) -> Result:
        """`tenantry …`, as a person types it."""
        settings = self.world.settings
        given = {
            "CLERK_SECRET_KEY": settings.secret_key or "",
            "CLERK_API_URL": settings.api_url,
            "DATABASE_URL": self.world.database.dsn(),
            "TENANTRY_CLERK_BUDGET": "100",
        }
        program, *arguments = shlex.split(command, comments=True)
        assert program == "tenantry"
        return CliRunner().invoke(app, arguments, env=given | environment)

    def status(self, options: str = "", **environment: str) -> dict[str, Any]:
        """The checks by name; the exit code says whether all is well."""
        result = self.type(f"tenantry status --json {options}", **environment)
        told = json.loads(result.stdout)
        assert result.exit_code == (0 if told["level"] == "ok" else 1), result.output
        return {check["name"]: check for check in told["checks"]}

    def found(self, name: str, options: str = "", **environment: str) -> list[str]:
        """What is proposed for a finding; that there is one is seen on the screen too."""
        check = self.status(options, **environment)[name]
        printed = self.type(f"tenantry status {options}", **environment)
        assert check["level"] != "ok", check
        assert printed.exit_code == 1
        assert any(line.startswith(name) and f" {check['level']} " in line for line in printed.stdout.splitlines())
        assert all(step in printed.stdout for step in check["next"])
        return [str(step) for step in check["next"]]

    def is_well(self, name: str, options: str = "", **environment: str) -> bool:
        return bool(self.status(options, **environment)[name]["level"] == "ok")


@pytest.fixture
def world(servers: Callable[[int], Server]) -> Iterator[World]:
    with fresh_database(servers) as database, clerk_world(database) as made:
        yield made


@pytest.fixture
def terminal(world: World) -> Terminal:
    return Terminal(world)


@pytest.fixture
def settled(world: World, terminal: Terminal) -> Terminal:
    """Ada and Ben in Acme, all delivered, and a run: nothing is left to say."""
    org = world.organization("Acme", world.user("ada"))
    world.join(org, world.user("ben"))
    world.deliver_all()
    world.clock.pass_seconds(10)
    assert terminal.type("tenantry reconcile").exit_code == 0
    return terminal


def age(world: World, seconds: int) -> None:
    """Lets the installation, the deliveries and what was written in the feed be older."""
    for column in ("webhook_events.received_at", "migrations.applied_at", "changes.at"):
        table, name = column.split(".")
        world.mirror.run(f"update tenantry.{table} set {name} = {name} - interval '{seconds} s'")


def test_where_all_is_well_each_fact_has_a_line_and_the_exit_code_is_0(settled: Terminal) -> None:
    result = settled.type("tenantry status")
    assert result.exit_code == 0, result.output
    names = [line[:13].strip() for line in result.stdout.splitlines()]
    assert names == [
        *("webhooks", "event types", "dead letters", "refused", "ties"),
        *("reconcile", "feed", "instance", "schema", "isolation"),
    ]
    assert settled.world.emulator.instance.id in result.stdout


def test_until_a_webhook_has_arrived_it_says_so(world: World, terminal: Terminal) -> None:
    assert "add the endpoint" in terminal.found("webhooks")[0]
    world.user("ada")
    world.deliver_all()
    assert terminal.is_well("webhooks")


def test_silence_while_clerk_changes_is_found_by_asking_clerk(settled: Terminal) -> None:
    world = settled.world
    world.user("cleo")
    late = world.take_events()
    world.clock.pass_seconds(300)
    age(world, 7200)
    assert settled.is_well("webhooks")  # who does not ask cannot know
    first, advice = settled.found("webhooks", "--ask-clerk")
    assert settled.status("--ask-clerk")["webhooks"]["level"] == "fail"
    assert "is the endpoint enabled" in advice
    assert settled.type(first).exit_code == 0
    assert not settled.is_well("webhooks", "--ask-clerk")  # the mirror is right again, the endpoint is not
    world.deliver(*late)
    assert settled.is_well("webhooks", "--ask-clerk")


def test_a_quiet_instance_is_no_finding(settled: Terminal) -> None:
    settled.world.clock.pass_seconds(300)
    age(settled.world, 2 * 86_400)
    assert "--ask-clerk" in settled.status()["webhooks"]["says"]
    # The emulator's own objects are younger than the deliveries now: their events are in the inbox all the same.
    settled.world.mirror.run("update tenantry.webhook_events set received_at = now() where type = 'user.created'")
    assert "nothing that it did not tell" in settled.status("--ask-clerk")["webhooks"]["says"]


def test_a_type_that_runs_make_up_for_is_not_ticked_perhaps(settled: Terminal) -> None:
    world = settled.world
    world.mirror.run("delete from tenantry.webhook_events where type = 'user.created'")
    assert settled.is_well("event types")  # it need not have happened
    for name in ("cleo", "dora"):
        world.user(name)
        [created] = world.take_events()
        world.clock.pass_seconds(10)
        assert settled.type("tenantry reconcile").exit_code == 0
    assert "tick user.created" in settled.found("event types")[0]
    world.deliver(created)
    assert settled.is_well("event types")


def test_an_outage_that_one_run_made_up_for_is_no_missing_tick(settled: Terminal) -> None:
    world = settled.world
    gone = world.user("cleo")
    world.deliver_all()
    world.emulator.store.users.delete(gone)
    world.take_events()  # lost
    for _ in range(3):
        world.clock.pass_seconds(10)
        assert settled.type("tenantry reconcile --allow-mass-end").exit_code == 0
    assert "user.deleted" in world.mirror.one("select tenantry.status_v1()")["unseen"]
    assert settled.is_well("event types")


def test_dead_letters_are_replayed_after_the_fix(settled: Terminal) -> None:
    world = settled.world
    definition = world.mirror.one("select pg_get_functiondef('tenantry.read_event'::regproc)")
    mistake = "begin\n  perform tenantry.raise_error('TY010', 'a mistake of this release');"
    world.mirror.run(definition.replace("begin\n", f"{mistake}\n", 1).replace("BEGIN\n", f"{mistake}\n", 1))
    world.user("cleo")
    world.deliver_all()
    world.mirror.run(definition)
    show, replay = settled.found("dead letters")
    assert "user.created 1" in settled.status()["dead letters"]["says"]
    assert "a mistake of this release" in settled.type(show).stdout
    assert settled.type(replay).exit_code == 0
    assert settled.is_well("dead letters")
    world.check()


def test_another_instances_deliveries_are_found(settled: Terminal) -> None:
    world = settled.world
    own = settled.world.emulator.instance.id
    told = event("user.created", user("user_9")) | {"instance_id": "ins_staging"}
    assert world.mirror.deliver(told, "msg_9")["outcome"] == "refused"
    show, _ = settled.found("refused")
    assert own in settled.type(show).stdout
    assert settled.type("tenantry instance rebind ins_staging").exit_code == 0
    world.mirror.deliver(told, "msg_9")  # Svix tries again
    assert settled.is_well("refused")


def test_a_tie_is_settled_by_asking_clerk(settled: Terminal) -> None:
    world = settled.world
    world.mirror.run(
        "update tenantry.users set first_name = 'Other', content_hash = 1, observed_at = observed_at"
        " where first_name = 'ada'"
    )
    [quick] = settled.found("ties")
    assert settled.type(quick).exit_code == 0
    assert settled.is_well("ties")
    world.check()


def test_before_the_first_run_what_is_older_is_missing(world: World, terminal: Terminal) -> None:
    world.organization("Acme", world.user("ada"))
    [command] = terminal.found("reconcile")
    assert terminal.type(command).exit_code == 0
    assert terminal.is_well("reconcile")
    world.check()


def test_a_run_under_way_is_well_and_a_stopped_one_is_gone_on_with(settled: Terminal) -> None:
    world = settled.world
    begun = mirror.begin_reconcile({"instance_id": world.emulator.instance.id, "started_at": world.clock()})
    with connect(world.database.dsn()) as connection:
        with connection.transaction():
            run(connection, mirror.lock_reconcile())
            with connect(world.database.dsn()) as another:
                run(another, begun)
            assert "under way" in settled.status()["reconcile"]["says"]
        [command] = settled.found("reconcile")
    assert settled.type(command).exit_code == 0
    assert settled.is_well("reconcile")


def test_what_a_dry_run_found_is_mended_by_a_run(settled: Terminal) -> None:
    settled.world.user("cleo")
    settled.world.clock.pass_seconds(10)
    assert settled.type("tenantry reconcile --dry-run").exit_code == 1
    [command] = settled.found("reconcile")
    assert settled.type(command).exit_code == 0
    assert settled.is_well("reconcile")


def test_a_brake_that_held_is_released_by_a_person(world: World, terminal: Terminal) -> None:
    org = world.organization("Acme", world.user("ada"))
    people = world.people(20, org)
    asyncio.run(world.reconcile())
    for person in people[:10]:
        world.leave(org, person)
    world.clock.pass_seconds(10)
    assert terminal.type("tenantry reconcile").exit_code == 1
    look, release = terminal.found("reconcile")
    assert "10 memberships" in terminal.status()["reconcile"]["says"]
    assert "exists: mirror true, Clerk false" in terminal.type(look).stdout
    assert terminal.type(release).exit_code == 0
    assert terminal.is_well("reconcile")
    world.check()


def test_background_runs_that_do_not_happen_are_missed(settled: Terminal) -> None:
    settled.world.mirror.run("update tenantry.reconcile_runs set finished_at = now() - interval '1 h'")
    assert settled.is_well("reconcile")
    command, _ = settled.found("reconcile", TENANTRY_RECONCILE="15m")
    assert settled.type(command).exit_code == 0
    assert settled.is_well("reconcile", TENANTRY_RECONCILE="15m")


def test_a_parked_consumer_is_resumed(settled: Terminal) -> None:
    with connect(settled.world.database.dsn()) as connection:
        run(connection, mirror.add_consumer("mail", ["*"], "beginning"))
        run(connection, mirror.sequence_changes())
        first = mirror.decode(run(connection, mirror.read_consumer("mail", ["*"], 1)))["changes"][0]["pos"]
        run(connection, mirror.fail_consumer("mail", first, "ValueError", attempts=1, backoff=1))
    show, resume = settled.found("feed")
    assert "mail  parked" in settled.type(show).stdout
    assert settled.type(resume).exit_code == 0
    assert settled.is_well("feed")


def test_a_consumer_without_a_handler_is_removed(settled: Terminal) -> None:
    with connect(settled.world.database.dsn()) as connection:
        run(connection, mirror.add_consumer("left-behind", ["*"], "beginning"))
        run(connection, mirror.sequence_changes())
    assert settled.is_well("feed")
    age(settled.world, 600)
    _, remove = settled.found("feed")
    assert settled.type(remove).exit_code == 0
    assert settled.is_well("feed")


def test_changes_that_nobody_places_are_placed(settled: Terminal) -> None:
    with connect(settled.world.database.dsn()) as connection:
        run(connection, mirror.add_consumer("mail", ["*"], "now"))
    settled.world.user("cleo")
    settled.world.deliver_all()
    age(settled.world, 120)
    _, place = settled.found("feed")
    assert settled.type(place).exit_code == 0
    assert settled.is_well("feed")


def test_functions_of_another_release_are_migrated(settled: Terminal) -> None:
    settled.world.mirror.run("comment on table tenantry.migrations is 'functions 0.0.1 of-another-release'")
    [migrate] = settled.found("schema")
    assert settled.type(migrate, DATABASE_URL=settled.world.database.dsn(SUPERUSER)).exit_code == 0
    assert settled.is_well("schema")


def test_a_database_without_the_schema_names_the_command(world: World, terminal: Terminal) -> None:
    empty = world.database.server.create()
    result = terminal.type("tenantry status", DATABASE_URL=empty.dsn())
    world.database.server.drop(empty)
    assert result.exit_code == 1
    assert "tenantry db migrate" in result.stdout


def test_a_table_nobody_isolated_is_found(settled: Terminal) -> None:
    with settled.world.database.connect(OWNER) as owner:
        owner.execute("create table invoices (id int generated always as identity primary key)")
        [check] = settled.found("isolation")
        assert "invoices" in settled.type(check).stdout
        owner.execute("select tenantry.isolate_table_v1('invoices')")
    assert settled.is_well("isolation")


def test_a_database_that_is_away_is_a_finding(world: World, terminal: Terminal) -> None:
    away = "postgresql://app:secret@127.0.0.1:1/app"
    result = terminal.type("tenantry status", DATABASE_URL=away)
    assert result.exit_code == 1
    assert result.stdout.startswith("database  fail")
    assert "secret" not in result.output
    assert "port 1 failed" in result.stdout
    assert list(terminal.status(DATABASE_URL=away)) == ["database"]


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ("", {"DATABASE_URL": ""}, "No database is given"),
        ("--ask-clerk", {"CLERK_SECRET_KEY": ""}, "no key to ask Clerk with"),
    ],
)
def test_a_missing_setting_is_a_usage_error(
    terminal: Terminal, options: str, environment: dict[str, str], said: str
) -> None:
    result = terminal.type(f"tenantry status {options}", **environment)
    assert isinstance(result.exception, ConfigurationError)
    assert said in str(result.exception)


def test_a_usage_error_exits_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "TENANTRY_MIGRATION_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["status"])
    assert ended.value.code == 2


def test_a_setting_that_cannot_be_read_hides_no_other_line(settled: Terminal) -> None:
    [advice] = settled.found("settings", CLERK_PUBLISHABLE_KEY="garbage")
    assert "dashboard" in advice
    found = settled.status("--ask-clerk", TENANTRY_RECONCILE="sometimes")
    assert "TENANTRY_RECONCILE" in found["settings"]["says"]
    assert "could not be asked" in found["webhooks"]["says"]
    assert found["dead letters"]["level"] == "ok"


@pytest.mark.parametrize(
    ("environment", "says", "step"),
    [
        ({"CLERK_API_URL": "http://127.0.0.1:9"}, "did not answer", "tenantry status --ask-clerk"),
        ({"CLERK_SECRET_KEY": "sk_test_another"}, "refused", "Check CLERK_SECRET_KEY."),
    ],
)
def test_a_clerk_that_cannot_be_asked_hides_no_other_line(
    settled: Terminal, environment: dict[str, str], says: str, step: str
) -> None:
    found = settled.status("--ask-clerk", **environment)
    webhooks = found.pop("webhooks")
    assert (webhooks["level"], webhooks["next"]) == ("warn", [step])
    assert webhooks["says"].startswith("the last one ")
    assert says in webhooks["says"]
    assert "sk_test_another" not in json.dumps(webhooks)
    assert len(found) == 9
    assert {check["level"] for check in found.values()} == {"ok"}


def test_a_key_of_another_instance_is_a_line(settled: Terminal) -> None:
    settled.world.mirror.run("update tenantry.clerk_instance set instance_id = 'ins_other'")
    assert "the database of ins_other" in settled.status("--ask-clerk")["webhooks"]["says"]


def test_a_schema_that_was_not_migrated_after_an_upgrade_says_what_is_pending(settled: Terminal) -> None:
    mirror = settled.world.mirror
    mirror.run("drop function tenantry.status_v1()")
    assert "or is of another release" in settled.status()["schema"]["says"]
    mirror.run("comment on table tenantry.migrations is 'functions 0.0.1 of-another-release'")
    assert settled.found("schema") == ["tenantry db migrate"]
    assert "functions pending" in settled.status()["schema"]["says"]


def test_a_login_with_part_of_the_rights_is_told_how_to_get_the_others(settled: Terminal) -> None:
    settled.world.mirror.run("revoke execute on function tenantry.status_v1() from tenantry_app")
    [advice] = settled.found("schema")
    assert "--app-role" in advice
    assert "permission denied" in settled.status()["schema"]["says"]
