"""The `tenantry` command: one module a subcommand, errors as sentences."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tenantry import __version__
from tenantry.cli import adopt, changes, db, emulator, instance, roles
from tenantry.cli.adopt_organizations import organizations
from tenantry.cli.adopt_report import report
from tenantry.cli.dev import dev
from tenantry.cli.reconcile import reconcile
from tenantry.errors import ConfigurationError, TenantryError

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
adopt.app.command()(organizations)
adopt.app.command()(report)
app.add_typer(adopt.app, name="adopt")
app.add_typer(emulator.app, name="emulator")
app.command()(dev)
app.command()(reconcile)


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
        app(arguments)
    except TenantryError as error:
        _print_error(error)
        sys.exit(USAGE if isinstance(error, ConfigurationError) else FAILED)


def _print_error(error: TenantryError) -> None:
    typer.secho(f"Error: {error.message}", fg="red", err=True)
    if error.detail:
        typer.echo(error.detail, err=True)
    if error.hint:
        typer.echo(f"Hint: {error.hint}", err=True)
