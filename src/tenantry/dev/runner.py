"""Runs a development environment: database, emulator, migrations and app, in this order and stopped in reverse.

PostgreSQL is a child of this process, and so is the app, which starts again when its files change. Without `--reload`
the app runs here, on the main thread, where its signals arrive. The emulator has a thread of its own, so that an app
that waits for it while importing gets an answer.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from tenantry import database, mirror, roles
from tenantry.dev.child import die_with_parent
from tenantry.dev.emulator import LocalClerk, open_emulator
from tenantry.dev.feed import following
from tenantry.dev.local_database import LocalDatabase, open_database
from tenantry.dev.reloading import serve_reloading
from tenantry.dev.screen import Screen, Summary
from tenantry.dev.serving import address_of, claim_port, load_app, serve
from tenantry.errors import ConfigurationError
from tenantry.settings import Settings

APP_PORT = 8000
EMULATOR_PORT = 4010
WEBHOOK_PATH = "/webhooks/clerk"


@dataclass(frozen=True)
class Options:
    """What `tenantry dev` was asked for. A port of None means the first free one from the default on."""

    app: str | None
    app_dir: Path
    port: int | None
    emulator_port: int | None
    data: Path
    seed_file: Path | None
    migrate: str | None
    reload: bool


def run(options: Options) -> None:
    """Runs until Ctrl-C (returns), SIGTERM or SIGHUP (SystemExit). Raises TenantryError for what cannot be started."""
    if sys.platform == "win32":
        raise ConfigurationError("'tenantry dev' runs on Linux and macOS.", hint="On Windows, run it in WSL.")
    screen = Screen()
    try:
        with ending_on_signals(), ExitStack() as stack:
            app_socket = stack.enter_context(claim_port(options.port, APP_PORT, "--port"))
            emulator_socket = stack.enter_context(claim_port(options.emulator_port, EMULATOR_PORT, "--emulator-port"))
            app_url = address_of(app_socket)
            _make_data_folder(options.data)
            screen.say("Starting PostgreSQL, the Clerk emulator and the app ...")
            postgres = stack.enter_context(open_database(options.data / "postgres"))
            clerk = stack.enter_context(
                open_emulator(
                    emulator_socket,
                    folder=options.data / "emulator",
                    seed_file=options.seed_file,
                    webhook_url=app_url + WEBHOOK_PATH,
                    screen=screen,
                )
            )
            os.environ.update(postgres.environment() | clerk.environment() | _parties(app_url))
            if paths := os.environ.get("PYTHONPATH"):  # of where this began, also for what runs in the app's folder
                os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
            os.chdir(options.app_dir)
            if options.migrate:
                migrate(options.migrate)

            def announce() -> None:
                screen.show(_summarize(options, app_url, postgres, clerk))
                stack.enter_context(following(postgres.app_url, screen))
                clerk.release_webhooks()

            prepare = partial(apply_roles, postgres.owner_url)
            if options.app and options.reload:
                serve_reloading(
                    options.app, options.app_dir, app_socket, prepare=prepare, on_ready=announce, screen=screen
                )
            else:
                prepare()
                serve(load_app(options.app, options.app_dir) if options.app else _load_demo(), app_socket, announce)
    except KeyboardInterrupt:
        screen.say("\nStopped.")


def migrate(command: str) -> None:
    """Runs the app's migrations with this environment's commands. Raises ConfigurationError when they fail; their
    output is on the screen."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        parts = shlex.split(command)
        # Looked up here: the child's own PATH does not say where to find it.
        program = shutil.which(parts[0], path=path) if parts else None
        if program is None:
            raise ConfigurationError(f"The migration command '{command}' cannot be run: there is no such program.")
        ended = subprocess.run(
            [program, *parts[1:]], env=os.environ | {"PATH": path}, preexec_fn=die_with_parent(signal.SIGTERM)
        )
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The migration command '{command}' cannot be run: {error}") from None
    if ended.returncode != 0:
        raise ConfigurationError(
            f"The migration command '{command}' failed with exit code {ended.returncode}.",
            hint="Does it connect to TENANTRY_MIGRATION_URL? DATABASE_URL has the app's login, which makes no tables.",
        )


def apply_roles(database_url: str) -> None:
    """Brings the app's tenantry.toml, if it has one, to the database, as `tenantry roles apply` does."""
    file = Settings.from_env().roles_file
    if file is not None:
        with database.connect(database_url) as connection:
            database.run(connection, mirror.set_role_permissions(roles.load(file).grants))


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM unwinds like an exception, so that everything is stopped in order; a closed terminal counts as SIGTERM,
    which the web server knows how to end on. Ctrl-C does its work in a script's background job too."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def terminate(number: int, _: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _make_data_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")  # databases and keys are no part of a project
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {folder} cannot be used: {error.strerror}.", hint="Choose another with --data."
        ) from None


def _load_demo() -> Any:
    from tenantry.dev.demo import create_app  # not before the environment is set, and only if it is wanted

    return create_app()


def _parties(app_url: str) -> dict[str, str]:
    port = urlsplit(app_url).port
    return {"CLERK_AUTHORIZED_PARTIES": f"http://localhost:{port},http://127.0.0.1:{port}"}


def _summarize(options: Options, app_url: str, database: LocalDatabase, clerk: LocalClerk) -> Summary:
    addresses = [
        ("App", f"{app_url}  ({options.app or 'the built-in demo'})"),
        ("Clerk emulator", f"{clerk.url}  (people, organizations, webhooks)"),
        ("PostgreSQL", database.label),
        ("Data", str(options.data)),
    ]
    return Summary(addresses, clerk.people(), _next_steps(options, app_url, clerk))


def _next_steps(options: Options, app_url: str, clerk: LocalClerk) -> list[tuple[str, str]]:
    """What to do in an order that works: look, sign in, use the app, be removed; in the demo, sign in elsewhere."""
    pairs = [(person, organization) for person in clerk.people() for organization, _ in person.memberships]
    if not pairs:
        return []
    person, organization = pairs[0]
    signed = 'curl -s -H "Authorization: Bearer $TOKEN"'
    page = f"{app_url}/" if options.app else f"{app_url}/notes"
    steps = [
        ("open the app, and sign in with Clerk's own components", app_url),
        (
            f"or in a terminal, as {person.name} in {organization}",
            f"TOKEN=$({clerk.token_command(person, organization)})",
        ),
    ]
    if options.app:
        removal = f"{clerk.removal_command(person, organization)} -o /dev/null"
        told = f"remove {person.name} from {organization}: where a tenant is needed, the token is refused at once"
        return [*steps, ("ask the app", f"{signed} {page}"), (told, removal)]
    note = """-H 'Content-Type: application/json' -d '{"text": "hello"}'"""
    steps += [("write a note", f"{signed} {note} {page}"), ("read the notes", f"{signed} {page}")]
    for person, elsewhere in pairs:
        if elsewhere != organization:
            sign_in = f"TOKEN=$({clerk.token_command(person, elsewhere)})"
            steps.append((f"read them as {person.name} in {elsewhere}: none", f"{sign_in}; {signed} {page}"))
            break
    return steps
