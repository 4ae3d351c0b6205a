"""The Clerk emulator of a development run, served on a thread."""

from __future__ import annotations

import json
import re
import shlex
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tenantry.dev.screen import Person, Screen
from tenantry.dev.serving import address_of, serve_on_thread
from tenantry.emulator.app import create_app
from tenantry.emulator.deliveries import Attempt
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.records import User
from tenantry.emulator.seed import DEFAULT, Seed, read_seed
from tenantry.errors import ConfigurationError

CANNOT_START = "The Clerk emulator cannot start."
TOKEN_SECONDS = 3600  # for commands typed by hand; Clerk's own live for 60 s


class LocalClerk:
    """A running emulator at `url`."""

    def __init__(self, url: str, emulator: Emulator) -> None:
        self.url = url
        self._emulator = emulator

    def environment(self) -> dict[str, str]:
        return self._emulator.environment(self.url) | {"TENANTRY_EMULATOR_URL": self.url}

    def nextjs_environment(self) -> dict[str, str]:
        return self._emulator.instance.nextjs_environment(self.url)

    def release_webhooks(self) -> None:
        """Lets deliveries go: they are held until there is an app to receive them."""
        self._emulator.webhooks.release()

    def people(self) -> list[Person]:
        """Everybody who can sign in, as of now."""
        return [self._describe(user) for user in list(self._emulator.store.state.users.values())]

    def token_command(self, person: Person, organization: str) -> str:
        """A shell command that prints a session token."""
        given = {"user": person.email, "organization": organization, "expires_in": str(TOKEN_SECONDS)}
        options = " ".join(_curl_option(name, value) for name, value in given.items())
        return f"curl -s {self.url}/emulator/token {options}"

    def removal_command(self, person: Person, organization: str) -> str:
        """A shell command that removes somebody from an organization, through the Backend API."""
        user = self._emulator.store.users.find(person.email)
        wanted = self._emulator.store.organizations.find(organization)
        path = f"/v1/organizations/{wanted.id}/memberships/{user.id}"
        secret = self.environment()["CLERK_SECRET_KEY"]
        return f'curl -s -X DELETE -H "Authorization: Bearer {secret}" {self.url}{path}'

    def _describe(self, user: User) -> Person:
        state = self._emulator.store.state
        memberships = tuple(
            (state.organizations[membership.organization_id].name, _short(state.roles[membership.role_id].key))
            for membership in state.memberships_of_user(user.id)
        )
        email = user.primary_email
        name = " ".join(filter(None, (user.first_name, user.last_name)))
        return Person(name or user.username or user.id, email.email_address if email else "", memberships)


def build_emulator(screen: Screen, **options: Any) -> Emulator:
    """An emulator with these options (`Emulator`'s own) whose deliveries show on the screen, a line each.

    Raises ConfigurationError when a folder, a seed or another option cannot be used.
    """
    try:
        return Emulator(on_attempt=lambda attempt: _show(screen, attempt), **options)
    except OSError as error:
        raise ConfigurationError(CANNOT_START, detail=f"{error.filename}: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigurationError(CANNOT_START, detail=str(error)) from None


def read_seed_file(file: Path | None) -> Seed:
    """The people and organizations of a file, or the usual ones. Raises ConfigurationError."""
    try:
        return read_seed(file) if file else DEFAULT
    except (OSError, ValueError) as error:
        raise ConfigurationError(CANNOT_START, detail=str(error)) from None


@contextmanager
def open_emulator(
    claimed: socket.socket, *, folder: Path, seed_file: Path | None, webhook_url: str, screen: Screen
) -> Iterator[LocalClerk]:
    """Serves an emulator that keeps itself in `folder` and delivers its events to `webhook_url`.

    Raises ConfigurationError when the folder or the seed file cannot be used.
    """
    seed = read_seed_file(seed_file)
    emulator = build_emulator(screen, folder=folder, seed_data=seed, webhook_urls=[webhook_url])
    emulator.webhooks.pause()
    with closing(emulator), serve_on_thread(create_app(emulator), claimed):
        yield LocalClerk(address_of(claimed), emulator)


def _show(screen: Screen, attempt: Attempt) -> None:
    answer = f" {attempt.status or attempt.error}" if attempt.number else ""  # a lost one was never sent
    again = f", again in {attempt.retry_in:.0f} s" if attempt.retry_in is not None else ""
    became = _read_outcome(attempt.excerpt)
    outcome = f"{attempt.outcome}{answer}{again}" if became != "failed" else f"dead letter{answer}"
    screen.show_delivery(attempt.event_type, attempt.message_id, outcome)


def _read_outcome(excerpt: str) -> str | None:
    """What Tenantry's endpoint says became of the event; another app's answer says nothing of the kind."""
    try:
        answer = json.loads(excerpt)
    except ValueError:
        return None
    return str(answer.get("outcome")) if isinstance(answer, dict) else None


def _curl_option(name: str, value: str) -> str:
    plain = re.fullmatch(r"[\w@.-]+", value, re.ASCII)
    return f"-d {name}={value}" if plain else f"--data-urlencode {shlex.quote(f'{name}={value}')}"


def _short(role_key: str) -> str:
    return role_key.removeprefix("org:")
