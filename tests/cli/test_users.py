"""`tenantry users erase`: says what it removed, refuses who is still there, and tries first where asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from databases import SUPERUSER, Database, Server
from instance import fresh_database
from sql.clerk_objects import START, deleted, event, invitation, user
from sql.mirror import Mirror
from tenantry.cli import app
from tenantry.errors import ConfigurationError


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


def erase(database: Database, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["users", "erase", *arguments], env={"DATABASE_URL": database.dsn()})


def test_a_person_is_erased_after_a_trial_that_changes_nothing(database: Database) -> None:
    with database.connect(SUPERUSER) as connection:
        mirror = Mirror(connection)
        mirror.deliver(event("user.created", user()))
        mirror.deliver(event("organizationInvitation.created", invitation(email_address="ana@home.test")))
        refused = erase(database, "user_1")
        assert refused.exit_code == 1
        assert "user_1 is not deleted" in refused.stderr
        assert mirror.one("select first_name from tenantry.users") == "Ana"
        mirror.deliver(event("user.deleted", deleted("user", "user_1"), at=START + 9))

        trial = erase(database, "user_1", "--email", "ana@home.test", "--dry-run")
        assert trial.stdout.endswith("Nothing is removed yet: run it without --dry-run.\n")
        assert mirror.column("select email_address from tenantry.invitations") == ["ana@home.test"]

        done = erase(database, "user_1", "--email", "ana@home.test")
        assert done.exit_code == 0
        assert "     1  tenantry.invitations: addresses and metadata of invitations\n" in done.stdout
        assert "     1  tenantry.webhook_events: " in done.stdout
        assert "Tables of your app are yours" in done.stdout
        assert "ana@home.test" not in done.output
        assert mirror.column("select email_address from tenantry.invitations") == [None]
        addresses = mirror.one("select count(*) from tenantry.webhook_events where num_nonnulls(data, body) > 0")
        assert addresses == 0
    again = json.loads(erase(database, "user_1", "--json").stdout)
    assert (again["user"], set(again["rows"].values())) == ("erased", {0})
    assert "has no user user_9" in erase(database, "user_9").stdout


@pytest.mark.parametrize(
    "arguments", [[""], ["org_1"], ["user_%"], ["user_1", "--email", "data"], ["user_1", "--email", "a@"]]
)
def test_what_is_no_id_and_no_address_is_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["users", "erase", *arguments], env={"DATABASE_URL": "postgresql://nowhere"})
    assert isinstance(result.exception, ConfigurationError)
