"""The `tenantry` command: one module a subcommand, errors as sentences."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tenantry import __version__
from tenantry.cli import adopt, changes, db, emulator, events, init, instance, roles, tenants, users
from tenantry.cli.adopt_organizations import organizations
from tenantry.cli.adopt_report import report
from tenantry.cli.dev import dev
from tenantry.cli.reconcile import reconcile
from tenantry.cli.status import status
from tenantry.errors import ConfigurationError, TenantryError
from tenantry.terminal import printable

FAILED = 1
USAGE = 2

app = typer.Typer(
    name="tenantry",
    help="Clerk organizations in your PostgreSQL, and every query inside one of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(db.app, name="db")
app.add_typer(roles.app, name="roles")
app.add_typer(instance.app, name="instance")
app.add_typer(changes.app, name="changes")
app.add_typer(events.app, name="events")
app.add_typer(tenants.app, name="tenants")
app.add_typer(users.app, name="users")
adopt.app.command()(organizations)
adopt.app.command()(report)
app.add_typer(adopt.app, name="adopt")
app.add_typer(emulator.app, name="emulator")
app.add_typer(init.app, name="init")
app.command()(dev)
app.command()(reconcile)
app.command()(status)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tenantry {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0, 1 for a failure or a finding, 2 for a usage or configuration error."""
    try:
        _check_text(sys.argv[1:] if arguments is None else arguments)
        app(arguments)
    except TenantryError as error:
        _print_error(error)
        sys.exit(USAGE if isinstance(error, ConfigurationError) else FAILED)


def _check_text(arguments: list[str]) -> None:
    """Raises ConfigurationError for an argument that was typed in bytes of no text: no database takes it."""
    for argument in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise ConfigurationError(f"An argument is not UTF-8: {printable(argument)}.")


def _print_error(error: TenantryError) -> None:
    """It may quote what was read: no terminal is to act on that. A detail may have lines."""
    typer.secho(f"Error: {printable(error.message)}", fg="red", err=True)
    for line in (error.detail or "").splitlines():
        typer.echo(printable(line), err=True)
    if error.hint:
        typer.echo(f"Hint: {printable(error.hint)}", err=True)
