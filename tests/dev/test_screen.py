"""The screen shows what can be copied, whole and unchanged."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tenantry.dev.screen import PEOPLE_SHOWN, Person, Screen, Summary

ADA = Person("Ada [bold]Lovelace", "ada@example.test", (("Acme [red]", "admin"),))


@pytest.fixture
def narrow() -> tuple[Screen, io.StringIO]:
    printed = io.StringIO()
    return Screen(Console(file=printed, width=20, highlight=False, soft_wrap=True)), printed


def test_a_command_is_printed_on_one_line_and_without_markup(narrow: tuple[Screen, io.StringIO]) -> None:
    screen, printed = narrow
    command = "curl -s " + "x" * 200 + " '[bold]'"
    screen.show(Summary([("App", "http://127.0.0.1:8000")], [], [("try", command)]))
    assert f"  {command}\n" in printed.getvalue()


def test_names_are_printed_as_they_are(narrow: tuple[Screen, io.StringIO]) -> None:
    screen, printed = narrow
    screen.show(Summary([("App", "http://127.0.0.1:8000")], [ADA], []))
    assert "Ada [bold]Lovelace" in printed.getvalue()
    assert "Acme [red] (admin)" in printed.getvalue()


def test_what_came_from_outside_does_not_act_on_the_terminal(narrow: tuple[Screen, io.StringIO]) -> None:
    screen, printed = narrow
    attack = "\x1b[2J\x1b]0;owned\x07\x9b2J\u202e"
    screen.show(Summary([("App", "http://127.0.0.1:8000")], [Person(attack, attack, ((attack, "admin"),))], []))
    screen.show_change("tenant.created", [attack], "webhook")
    screen.show_delivery(attack, attack, "delivered 200")
    assert not set(printed.getvalue()) & set("\x1b\x07\x9b\u202e")
    assert "\\x1b[2J" in printed.getvalue()


def test_of_many_people_only_the_first_are_listed(narrow: tuple[Screen, io.StringIO]) -> None:
    screen, printed = narrow
    screen.show(Summary([("App", "http://127.0.0.1:8000")], [ADA] * (PEOPLE_SHOWN + 5), []))
    assert printed.getvalue().count("ada@example.test") == PEOPLE_SHOWN
    assert "and 5 more" in printed.getvalue()


def test_an_attempt_is_one_line(narrow: tuple[Screen, io.StringIO]) -> None:
    screen, printed = narrow
    screen.show_delivery("organizationMembership.created", "msg_1", "failed 503, again in 5 s")
    assert printed.getvalue().count("\n") == 1
    assert "failed 503, again in 5 s" in printed.getvalue()
