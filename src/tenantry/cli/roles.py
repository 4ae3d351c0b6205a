"""`tenantry roles`: what each Clerk role may do in the app, from `tenantry.toml` to the database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry import mirror, roles, schema
from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect, run
from tenantry.errors import ConfigurationError

app = typer.Typer(help="Show and apply the map from Clerk roles to the app's permissions.", no_args_is_help=True)

RolesFile = Annotated[
    Path | None,
    typer.Option("--file", metavar="PATH", help="Default: TENANTRY_ROLES_FILE, else tenantry.toml if it is there."),
]


@app.command()
def show(database_url: DatabaseUrl = None, file: RolesFile = None, as_json: Json = False) -> None:
    """Compare the file with the database. Exits with 1 where they differ, or a role of Clerk's is not in the file."""
    wanted = _load(file)
    with connect(database_url) as connection:
        applied = schema.role_permissions(connection)
        unknown = _read_roles(connection) - wanted.roles
    differs = {
        role: _compare(wanted.permissions(role), applied.get(role, frozenset()))
        for role in wanted.roles | applied.keys()
    }
    if as_json:
        typer.echo(json.dumps({"roles": differs, "unknown_roles": sorted(unknown)}))
    else:
        for role in sorted(differs):
            _print_role(role, differs[role])
        for role in sorted(unknown):
            typer.echo(f"{role}\n  not in the file: it permits nothing")
    pending = any(found["to_add"] or found["to_remove"] for found in differs.values())
    if pending and not as_json:
        typer.echo("\nThe database differs from the file. Next: tenantry roles apply")
    raise typer.Exit(1 if pending or unknown else 0)


@app.command()
def apply(database_url: DatabaseUrl = None, file: RolesFile = None, as_json: Json = False) -> None:
    """Write the file's map to the database, where SQL, FastAPI and Next.js read it."""
    wanted = _load(file)
    with connect(database_url) as connection:
        told = mirror.decode(run(connection, mirror.set_role_permissions(wanted.grants)))
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(f"{told['added']} added, {told['removed']} removed.")
    for role in told["unknown_roles"]:
        typer.echo(f"{role} is a role of Clerk's that the file does not know: it permits nothing.")


def _load(file: Path | None) -> roles.RoleMap:
    if file is None:
        from tenantry.settings import Settings

        file = Settings.from_env().roles_file
    if file is None:
        # Never the defaults in its place: started in the wrong folder, that would be a silent change.
        raise ConfigurationError(
            "There is no tenantry.toml here.", hint="Go to your app's folder, or name the file with --file."
        )
    return roles.load(file)


def _read_roles(connection: Any) -> frozenset[str]:
    return frozenset(row[0] for row in connection.execute("select key from tenantry.roles where ended_at is null"))


def _compare(wanted: frozenset[str], applied: frozenset[str]) -> dict[str, list[str]]:
    return {
        "permissions": sorted(wanted & applied),
        "to_add": sorted(wanted - applied),
        "to_remove": sorted(applied - wanted),
    }


def _print_role(role: str, found: dict[str, list[str]]) -> None:
    typer.echo(role)
    for mark, name in ((" ", "permissions"), ("+", "to_add"), ("-", "to_remove")):
        for permission in found[name]:
            typer.echo(f"{mark} {permission}")
