"""`tenantry adopt organizations`: provides, in Clerk, the organizations that the plan's rows go to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.cli.adopt import FILE, File
from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect

if TYPE_CHECKING:
    import psycopg

    from tenantry.adopt.organizations import Outcome, Wanted, Wish
    from tenantry.settings import Settings


def organizations(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; print what would be.")] = False,
    name: Annotated[str, typer.Option(help="Make one organization of this name, for all users.")] = "",
    role_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="Of the users' table: a role, or whether one is an administrator.")
    ] = "",
    max_members: Annotated[
        int | None, typer.Option(min=0, help="How many members a new one may have, 0 for any; else Clerk decides.")
    ] = None,
    partly: Annotated[bool, typer.Option("--partly", help="Leave out users without a Clerk id.")] = False,
    file: File = FILE,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Make the plan's organizations that Clerk has not, and let the app's users join them; take those it has.

    A run that was stopped goes on where it was, and nothing is made twice. Asks Clerk with CLERK_SECRET_KEY. Exits with
    1 where Clerk refused something.
    """
    from tenantry.adopt import config, move
    from tenantry.adopt import organizations as orgs
    from tenantry.adopt.record import locked
    from tenantry.settings import Settings

    chosen = config.load(file)
    wish = orgs.Wish(name, role_column, max_members, partly)
    with connect(database_url) as connection, move.as_owner(connection, chosen) as schema, locked(connection):
        wanted = orgs.collect(connection, chosen, schema, wish)
        settings = Settings.from_env(database_url=database_url)
        files: list[str] = []
        try:
            outcomes = asyncio.run(_provide(settings, connection, wanted, wish, dry_run=dry_run, quiet=as_json))
        finally:
            if not dry_run and not connection.closed and orgs.is_recorded(connection):
                files = orgs.note(chosen, wanted, connection)
    if as_json:
        typer.echo(json.dumps([asdict(outcome) for outcome in outcomes]))
    else:
        _print_end(outcomes, files, name, dry_run=dry_run)
    raise typer.Exit(1 if any(outcome.problem for outcome in outcomes) else 0)


async def _provide(
    settings: Settings,
    connection: psycopg.Connection[Any],
    wanted: list[Wanted],
    wish: Wish,
    *,
    dry_run: bool,
    quiet: bool,
) -> list[Outcome]:
    from tenantry.adopt import organizations as orgs
    from tenantry.clerk import open_api

    tell = (lambda _: None) if quiet else _print
    async with open_api(settings) as api:
        return await orgs.provide(api, connection, wanted, wish, tell, dry_run=dry_run)


def _print(outcome: Outcome) -> None:
    named = f"{outcome.key}: " if outcome.key and outcome.key != outcome.org_id else ""
    did = "to be created" if outcome.how == "missing" else f"{outcome.org_id} {outcome.how}"
    typer.echo(f"{named}{outcome.name or '(no name)'}  {did}, {outcome.joined} of {outcome.members} members new")
    if outcome.problem:
        typer.secho(f"  {outcome.problem}", fg="red", err=True)
    elif not outcome.led:
        typer.echo("  nobody in it is org:admin: nobody could manage it")


def _print_end(outcomes: list[Outcome], files: list[str], name: str, *, dry_run: bool) -> None:
    refused = sum(bool(outcome.problem) for outcome in outcomes)
    if refused:
        typer.echo(f"{refused} are not complete: mend what Clerk says, then run it again.")
    if dry_run:
        typer.echo("Nothing was changed. Next: the same without --dry-run")
        return
    for file in files:
        typer.echo(f"Wrote {file}.")
    if name:
        typer.echo(f'Next: in adopt.toml, [rows]: to = "organization", organization = "{outcomes[0].org_id}"')
    else:
        typer.echo("Next: tenantry adopt plan")
