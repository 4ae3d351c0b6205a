"""`tenantry db`: installs the tenantry schema, says what state it is in, prints it, checks the isolation."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from tenantry.database import connect

app = typer.Typer(help="Install, upgrade, print and check the tenantry schema.", no_args_is_help=True)

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="Connect here. Default: TENANTRY_MIGRATION_URL, then DATABASE_URL, from the environment.",
    ),
]
AppRoles = Annotated[
    list[str] | None,
    typer.Option("--app-role", metavar="NAME", help="A login of your app that gets what it needs. Repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def migrate(database_url: DatabaseUrl = None, app_role: AppRoles = None) -> None:
    """Install the schema, or bring it up to this release."""
    from tenantry import schema

    with connect(database_url) as connection:
        applied = schema.install(connection, app_roles=app_role or ())
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo("The schema is up to date.")


@app.command()
def status(database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """Say what is installed and what is pending. Exits with 1 when `tenantry db migrate` has something to do."""
    from tenantry import schema

    with connect(database_url) as connection:
        found = schema.status(connection)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo(f"installed {found.installed}, available {found.available}")
        for name in found.pending:
            typer.echo(f"pending {name}")
        if found.newer:
            typer.echo("a newer release installed it")
        elif not found.pending and not found.functions_current:
            typer.echo("pending functions")
    raise typer.Exit(0 if found.current else 1)


@app.command()
def sql(
    app_role: AppRoles = None,
    after: Annotated[
        int, typer.Option("--from", metavar="N", help="Only what comes after migration N, and the functions.")
    ] = 0,
    transactions: Annotated[
        bool,
        typer.Option("--transactions/--no-transactions", help="Whether each step begins and commits one of its own."),
    ] = True,
) -> None:
    """Print the schema as SQL, for psql, Alembic, Drizzle or Prisma."""
    from tenantry import schema

    typer.echo(schema.sql(app_role or (), after=after, transactions=transactions))


@app.command()
def check(database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """List everything that weakens the isolation, each with its fix. Exits with 1 when there is something."""
    from tenantry import schema

    with connect(database_url) as connection:
        findings = schema.check(connection)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    elif not findings:
        typer.echo("Nothing found: every table is isolated or shared.")
    else:
        for finding in findings:
            typer.echo(f"{finding.code}  {finding.object}\n  {finding.explanation}\n  fix: {finding.fix}\n")
    raise typer.Exit(1 if findings else 0)
