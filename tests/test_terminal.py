"""What came from outside is shown on a terminal, and does nothing to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from databases import Database, Server
from instance import fresh_database
from sql.clerk_objects import event, organization
from sql.mirror import Mirror
from tenantry.cli import app
from tenantry.terminal import change_line, printable

ATTACK = "\x1b[2J\x1b]0;owned\x07\x9b2J\u202eA\nB"


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made, made.connect() as connection:
        mirror = Mirror(connection)
        mirror.deliver(event("organization.created", organization(name=ATTACK)), "msg_1")
        mirror.deliver(f"no json: {ATTACK}", "msg_2")
        yield made


def acts(text: str) -> bool:
    """Whether a terminal would do more with it than show it, and end lines."""
    return bool(set(text) & set("\x1b\x07\x9b\u202e"))


@pytest.mark.parametrize(
    "command", ["tenants list", "events list", "events show msg_1", "events show msg_2", "changes --from beginning"]
)
def test_a_name_drives_no_terminal(database: Database, command: str) -> None:
    result = CliRunner().invoke(app, command.split(), env={"DATABASE_URL": database.dsn()})
    assert result.exit_code == 0, result.output
    assert result.stdout
    assert not acts(result.output)
    assert "\nB" not in result.stdout


def test_a_name_is_shown_as_it_was_written() -> None:
    assert printable("Zoë  山田 👩‍👩‍👧 [bold]") == "Zoë  山田 👩‍👩‍👧 [bold]"
    assert printable(ATTACK) == r"\x1b[2J\x1b]0;owned\x07\x9b2J\u202eA\nB"


@given(st.text(st.characters()))
def test_whatever_it_is_it_becomes_one_line_that_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert not acts(shown)
    shown.encode()


def test_a_change_is_one_line_in_columns() -> None:
    told = change_line("03:00:00", "member.joined", ["Ada\n", None, "Acme"], "webhook")
    assert "".join(told) == r"03:00:00  member.joined         Ada\n  Acme  (webhook)"
