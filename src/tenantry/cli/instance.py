"""`tenantry instance`: which Clerk instance the database mirrors, and binding it to another."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tenantry import mirror
from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect, run

app = typer.Typer(help="Show or change the Clerk instance this database mirrors.", no_args_is_help=True)


@app.command()
def show(database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """Print the instance's id. Exits with 1 before the first event, page or token has bound one."""
    with connect(database_url) as connection:
        row = connection.execute("select instance_id, bound_at from tenantry.clerk_instance").fetchone()
    if as_json:
        typer.echo(json.dumps({"instance_id": row and row[0], "bound_at": row and row[1].isoformat()}))
    else:
        typer.echo(f"{row[0]}, since {row[1]:%Y-%m-%d %H:%M}" if row else "Not bound yet: the first webhook binds it.")
    raise typer.Exit(0 if row else 1)


@app.command()
def rebind(
    instance_id: Annotated[str, typer.Argument(help="The other instance's id, ins_...: Clerk dashboard, API keys.")],
    database_url: DatabaseUrl = None,
) -> None:
    """Bind the database to another instance: for a copy of production in staging. The mirrored rows stay."""
    with connect(database_url) as connection:
        run(connection, mirror.rebind_instance(instance_id))
    typer.echo(f"Bound to {instance_id}.")
