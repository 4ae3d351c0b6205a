"""`tenantry events`: finds deliveries, shows what they did, replays dead letters once they can be read, forgets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from databases import SUPERUSER, Database, Server
from instance import fresh_database
from sql.clerk_objects import event, membership, organization, user
from sql.mirror import Mirror
from sql.test_replay import broken, grow_old
from tenantry.cli import app
from tenantry.errors import ConfigurationError


@pytest.fixture(scope="module")
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    """An empty one."""
    with database.connect(SUPERUSER) as connection:
        connection.execute(
            "truncate tenantry.webhook_events, tenantry.changes, tenantry.tenants, tenantry.users cascade"
        )
        yield Mirror(connection)


@pytest.fixture
def events(database: Database) -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["events", *arguments], env={"DATABASE_URL": database.dsn()})

    return run


Events = Callable[..., Result]


def told(result: Result) -> Any:
    return json.loads(result.stdout)


def ids(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [json.loads(line)["message_id"] for line in result.stdout.splitlines()]


def test_deliveries_are_found_by_type_outcome_organization_user_and_time(mirror: Mirror, events: Events) -> None:
    mirror.deliver(event("user.created", user()), "msg_1")
    mirror.deliver(event("organization.created", organization()), "msg_2")
    mirror.deliver(event("organizationMembership.created", membership()), "msg_3")
    mirror.deliver("no json", "msg_4")
    mirror.run("update tenantry.webhook_events set received_at = now() - interval '3 hours' where message_id = 'msg_1'")
    assert ids(events("list", "--json")) == ["msg_4", "msg_3", "msg_2", "msg_1"]
    assert ids(events("list", "--json", "--limit", "2")) == ["msg_4", "msg_3"]
    assert ids(events("list", "--json", "--type", "organization.*", "--type", "user.created")) == ["msg_2", "msg_1"]
    assert ids(events("list", "--json", "--outcome", "failed")) == ["msg_4"]
    assert ids(events("list", "--json", "--outcome", "applied", "--outcome", "failed", "--since", "2h")) == [
        "msg_4",
        "msg_3",
        "msg_2",
    ]
    assert ids(events("list", "--json", "--org", "org_1")) == ["msg_3", "msg_2"]
    assert ids(events("list", "--json", "--user", "user_1", "--org", "org_1")) == ["msg_3"]
    tomorrow = f"{datetime.now(UTC).year + 1}-01-01"
    assert ids(events("list", "--json", "--since", tomorrow)) == []
    assert len(ids(events("list", "--json", "--since", "2020-01-01T10:00"))) == 4


def test_a_line_says_when_what_became_of_what_and_whom_it_is_about(mirror: Mirror, events: Events) -> None:
    mirror.deliver(event("organizationMembership.created", membership()), "msg_1")
    mirror.deliver('{"type": "user.created", "data": {"password": hunter2}}', "msg_2")
    lines = events("list").stdout.splitlines()
    assert lines[0].endswith("  failed    (no type)  msg_2")
    assert lines[1].startswith("  22P02: ")
    assert lines[2].endswith("  applied   organizationMembership.created  msg_1  org_1  user_1")
    assert "hunter2" not in events("list", "--json").stdout + "".join(lines)
    assert events("list", "--outcome", "stale").stdout == "No such delivery.\n"


def test_an_event_is_shown_with_what_it_told_and_what_it_changed(mirror: Mirror, events: Events) -> None:
    mirror.deliver(event("organizationMembership.created", membership(private_metadata={"plan": "hidden"})), "msg_1")
    shown = events("show", "msg_1")
    assert shown.exit_code == 0
    assert "changed: member.joined  orgmem_1" in shown.stdout
    assert '"role": "org:member"' in shown.stdout
    assert "hidden" not in shown.stdout
    found = told(events("show", "msg_1", "--json"))
    assert [change["kind"] for change in found["changes"]] == ["tenant.created", "user.created", "member.joined"]
    assert found["data"]["data"]["id"] == "orgmem_1"
    assert "digest" not in found


def test_a_dead_letter_is_shown_as_it_came_with_what_to_do(mirror: Mirror, events: Events) -> None:
    mirror.deliver("no json", "msg_1")
    shown = events("show", "msg_1").stdout
    assert "\nno json\n" in shown
    assert shown.endswith("Next: tenantry events replay msg_1\n")
    unknown = events("show", "msg_9")
    assert (unknown.exit_code, unknown.stderr.splitlines()[-1]) == (1, "Next: tenantry events list")
    assert told(events("show", "msg_9", "--json")) is None


def test_all_dead_letters_are_replayed_after_the_fix_and_again_there_is_nothing(mirror: Mirror, events: Events) -> None:
    with broken(mirror):
        for number in range(230):  # more than a page
            mirror.deliver(event("user.created", user(f"user_{number}")), f"msg_{number}")
        found = events("replay", "--failed")
        assert found.exit_code == 1
        assert found.stdout.endswith("230 failed.\n")
    trial = events("replay", "--failed", "--dry-run")
    assert trial.exit_code == 0
    assert "changed: user.created  user_7\n" in trial.stdout
    assert trial.stdout.endswith("230 applied.\nNothing is changed yet: run it without --dry-run.\n")
    assert mirror.one("select count(*) from tenantry.users") == 0
    assert mirror.column("select distinct replays from tenantry.webhook_events") == [1]
    assert events("replay", "--failed").stdout.endswith("230 applied.\n")
    assert mirror.one("select count(*) from tenantry.users") == 230
    again = events("replay", "--failed")
    assert (again.exit_code, again.stdout) == (0, "Nothing to replay.\n")


def test_many_that_are_named_are_replayed_in_batches(mirror: Mirror, events: Events) -> None:
    with broken(mirror):
        for number in range(130):
            mirror.deliver(event("user.created", user(f"user_{number}")), f"msg_{number}")
    named = events("replay", "--json", *(f"msg_{number}" for number in range(130)), "msg_0")
    assert named.exit_code == 0
    assert len(ids(named)) == 130
    assert mirror.one("select count(distinct xmin::text) from tenantry.webhook_events") == 2


def test_what_cannot_be_replayed_any_more_is_to_be_discarded(mirror: Mirror, events: Events) -> None:
    mirror.deliver(event("session.ended", {"id": 1}), "msg_1")  # a dead letter; of a session nothing is kept
    replayed = events("replay", "--failed")
    assert replayed.exit_code == 1
    assert "  Next: tenantry events discard msg_1\n" in replayed.stdout
    assert events("show", "msg_1").stdout.endswith("Next: tenantry events discard msg_1\n")
    assert events("discard", "msg_1").exit_code == 0
    assert events("replay", "--failed").exit_code == 0


def test_only_those_that_fit_are_replayed(mirror: Mirror, events: Events) -> None:
    with broken(mirror):
        mirror.deliver(event("user.created", user()), "msg_1")
        mirror.deliver(event("organization.created", organization()), "msg_2")
    # A dead letter's type stands in its row; whom it is about is known where it could be read so far.
    assert events("replay", "--failed", "--type", "organization.*").stdout.endswith("1 applied.\n")
    assert mirror.column("select outcome from tenantry.webhook_events order by message_id") == ["failed", "applied"]


def test_an_applied_event_says_that_it_is_known_and_an_unknown_one_that_it_is_not(
    mirror: Mirror, events: Events
) -> None:
    mirror.deliver(event("user.created", user()), "msg_1")
    known = events("replay", "msg_1")
    assert known.exit_code == 0
    assert "applied already: the mirror knows it" in known.stdout
    unknown = events("replay", "msg_1", "msg_9")
    assert unknown.exit_code == 1
    assert "msg_9  (no type)  there is no such delivery" in unknown.stdout


def test_what_the_database_refuses_holds_up_no_other(mirror: Mirror, events: Events) -> None:
    with broken(mirror):
        for number in range(3):
            mirror.deliver(event("user.created", user(f"user_{number}")), f"msg_{number}")
    mirror.run("alter table tenantry.users add constraint odd check (id <> 'user_1')")
    try:
        found = events("replay", "--failed")
    finally:
        mirror.run("alter table tenantry.users drop constraint odd")
    assert found.exit_code == 1
    assert found.stdout.endswith("2 applied, 1 failed.\n")
    assert "Ana" not in found.stdout
    assert mirror.column("select outcome from tenantry.webhook_events order by message_id") == [
        "applied",
        "failed",
        "applied",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--outcome", "broken"],
        ["list", "--since", "yesterday"],
        ["list", "--since", "99999999d"],
        ["replay"],
        ["replay", "msg_1", "--failed"],
        ["replay", "msg_1", "--org", "org_1"],
        ["forget", "--older-than", "soon"],
        ["forget", "--older-than", "6d"],
    ],
)
def test_what_cannot_be_asked_for_is_refused(mirror: Mirror, events: Events, arguments: list[str]) -> None:
    assert isinstance(events(*arguments).exception, ConfigurationError)


def test_old_deliveries_are_forgotten_and_counted_first(mirror: Mirror, events: Events) -> None:
    for number in range(3):
        mirror.deliver(event("email.created", {}), f"msg_{number}")
    mirror.deliver("no json", "msg_dead")
    grow_old(mirror)
    assert events("forget", "--dry-run").stdout == "3 deliveries would be forgotten.\n"
    assert told(events("forget", "--older-than", "90d", "--json")) == {"forgotten": 3, "dry_run": False}
    assert mirror.column("select message_id from tenantry.webhook_events where message_id like 'msg%'") == ["msg_dead"]


def test_a_dead_letter_that_cannot_be_mended_is_discarded_and_nothing_else_is(mirror: Mirror, events: Events) -> None:
    mirror.deliver("no JSON", "msg_1")
    mirror.deliver(event("user.created", user()), "msg_2")
    result = events("discard", "msg_1", "msg_2", "msg_3")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "msg_1  discarded",
        "msg_2  is no dead letter",
        "msg_3  is no dead letter",
    ]
    assert ids(events("list", "--json")) == ["msg_2"]
