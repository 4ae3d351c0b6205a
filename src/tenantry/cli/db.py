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
    """Say which migrations are installed and which are pending. Exits with 1 when some are pending."""
    from tenantry import schema

    with connect(database_url) as connection:
        found = schema.status(connection)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo(f"installed {found.installed}, available {found.available}")
        for name in found.pending:
            typer.echo(f"pending {name}")
    raise typer.Exit(1 if found.pending else 0)


@app.command()
def sql(app_role: AppRoles = None) -> None:
    """Print the whole schema as SQL, for psql, Alembic, Drizzle or Prisma."""
    from tenantry import schema

    typer.echo(schema.sql(app_roles=app_role or ()))


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
