"""What a development run prints: one screen when everything is up, then a line per webhook and per change it makes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from tenantry import __version__
from tenantry.errors import TenantryError
from tenantry.terminal import change_line, printable

PEOPLE_SHOWN = 12


@dataclass(frozen=True)
class Person:
    """Somebody who can sign in; `memberships` are pairs of organization and role."""

    name: str
    email: str
    memberships: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Summary:
    """A run that is up: names with their addresses, people, and command lines to copy, each with what it does."""

    addresses: Sequence[tuple[str, str]]
    people: Sequence[Person]
    next_steps: Sequence[tuple[str, str]]


class Screen:
    """Prints for people; lines are never wrapped, so that a command can be copied."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    def show(self, summary: Summary) -> None:
        self._console.print(Text(f"\nTenantry {__version__}", style="bold"))
        self._show_pairs(summary.addresses)
        if summary.people:
            self._heading("Who can sign in")
            for person in summary.people[:PEOPLE_SHOWN]:
                self._show_person(person)
            if len(summary.people) > PEOPLE_SHOWN:
                self.say(f"  and {len(summary.people) - PEOPLE_SHOWN} more")
        if summary.next_steps:
            self._heading("Try next")
            for purpose, command in summary.next_steps:
                self._console.print(Text(f"  # {purpose}", style="dim"))
                self._console.print(f"  {command}", markup=False)
        self._heading("Webhooks delivered, and what they change (Ctrl-C stops everything)")

    def show_delivery(self, event_type: str, message_id: str, outcome: str) -> None:
        """One attempt to deliver a webhook; `outcome` begins with `delivered` when it was."""
        line = Text(f"  {time.strftime('%H:%M:%S')}  ", style="dim")
        line.append(f"{printable(event_type):<32}")
        line.append(f"{outcome}  ", style="green" if outcome.startswith("delivered") else "red")
        self._console.print(line.append(printable(message_id), style="dim"))

    def show_change(self, kind: str, about: Sequence[str], cause: str) -> None:
        """One change in the mirror, in the words of its feed; further in than the webhook that caused it."""
        when, what, whom = change_line(f"  {time.strftime('%H:%M:%S')}  ", kind, about, cause)
        self._console.print(Text(when, style="dim").append(what, style="cyan").append(whom, style="none"))

    def say(self, sentence: str) -> None:
        self._console.print(Text(sentence, style="dim"))

    def complain(self, error: TenantryError) -> None:
        """It may quote what was read, and a detail may have lines."""
        for number, line in enumerate(str(error).splitlines()):
            self._console.print(Text(printable(line), style="none" if number else "red"))

    def _heading(self, title: str) -> None:
        self._console.print(Text(f"\n{title}", style="bold"))

    def _show_pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            self._console.print(Text(f"  {name:<{width}}  ").append(value, style="cyan"))

    def _show_person(self, person: Person) -> None:
        belongs = printable(", ".join(f"{organization} ({role})" for organization, role in person.memberships))
        self._console.print(
            Text(f"  {printable(person.name):<20}{printable(person.email):<28}").append(
                belongs or "no organization", "dim"
            )
        )
