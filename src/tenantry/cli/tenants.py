"""`tenantry tenants`: lists tenants, exports one's rows, and deletes those of a deleted one."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry import mirror
from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect, run
from tenantry.errors import ConfigurationError
from tenantry.terminal import printable

if TYPE_CHECKING:
    from tenantry.tenants import Plan

app = typer.Typer(help="List tenants, export one, purge a deleted one.", no_args_is_help=True)

_PAGE = 1000

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Clerk's id, org_…, or Tenantry's.")]


@app.command("list")
def list_(
    deleted: Annotated[
        bool | None, typer.Option("--deleted/--live", help="Only deleted ones, or only the others.")
    ] = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """List tenants: their ids, name, how many members they have, and whether they are deleted or purged."""
    options: dict[str, Any] = {"limit": _PAGE} if deleted is None else {"limit": _PAGE, "deleted": deleted}
    with connect(database_url) as connection:
        while True:
            page = mirror.decode(run(connection, mirror.list_tenants(options)))
            for one in page:
                typer.echo(json.dumps(one) if as_json else _line(one))
            if not page and "after" not in options and not as_json:
                typer.echo("No such tenant.")
            if len(page) < _PAGE:
                return
            options["after"] = page[-1]["org_id"] or page[-1]["user_id"]


@app.command()
def export(
    tenant: Tenant,
    output: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="A folder that is not there yet.")],
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Write a tenant's rows, a file of JSON lines a table, as of one moment. manifest.json comes last."""
    from tenantry import tenants

    with connect(database_url) as connection:
        rows = tenants.export(connection, tenants.find_tenant(connection, tenant), output)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for name, count in rows.items():
        typer.echo(f"{count:>10,}  {name}")
    typer.echo(f"Written to {output}.")


@app.command()
def purge(
    tenant: Tenant,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="TENANT", help="Do it: repeat the id. Without, nothing is deleted."),
    ] = None,
    leave: Annotated[
        list[str] | None,
        typer.Option(
            "--leave", metavar="TABLE", help="A table not isolated whose rows may refer to it on. Repeatable."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=100_000, help="How many rows go in one transaction.")] = 1000,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Delete all rows of a deleted organization, or say what would go. One that was stopped goes on when run again.

    Exits with 1 where something stands against it, or rows came meanwhile or still may: run it again then.
    """
    from tenantry import tenants

    if confirm not in (None, tenant):
        raise ConfigurationError(f"--confirm says {confirm!r}, the tenant is {tenant!r}.")
    with connect(database_url) as connection:
        plan = tenants.plan(connection, tenants.find_tenant(connection, tenant), leave=leave or ())
        if confirm is None or plan.blockers:
            _print_plan(plan, tenant, leave or [], as_json=as_json)
            raise typer.Exit(1 if plan.blockers else 0)
        deleted = tenants.purge(connection, plan, batch=batch, progress=lambda *told: _print_progress(as_json, *told))
    if as_json:
        typer.echo(json.dumps(deleted))
        return
    for name, count in deleted.items():
        typer.echo(f"{count:>10,}  {name}")
    typer.echo(f"{tenant} is purged. Its ids stay, so that no late event brings it back.")


def _print_plan(plan: Plan, tenant: str, leave: list[str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(
            json.dumps({"steps": plan.steps, "rows": plan.rows, "blockers": plan.blockers, **asdict(plan.tenant)})
        )
        return
    for step in plan.steps:
        for name in step:
            together = f"  together with {', '.join(other for other in step if other != name)}" if len(step) > 1 else ""
            typer.echo(f"{plan.rows[name]:>10,}  {name}{together}")
    typer.echo("Then its memberships, invitations and domains, and what inbox and feed tell of it.")
    for blocker in plan.blockers:
        typer.secho(blocker, fg="red", err=True)
    if not plan.blockers:
        again = ["tenantry", "tenants", "purge", tenant, "--confirm", tenant]
        again += [word for name in leave for word in ("--leave", name)]
        typer.echo(f"Nothing is deleted yet. Next: {shlex.join(again)}")


def _print_progress(quiet: bool, table: str, rows: int) -> None:
    import sys

    if not quiet and sys.stderr.isatty():
        typer.secho(f"{table}: {rows:,} more", dim=True, err=True)


def _line(one: dict[str, Any]) -> str:
    members = "1 member" if one["members"] == 1 else f"{one['members']:,} members"
    words = [one["org_id"] or one["user_id"], one["id"], one["name"] or "(no name)", members]
    for state in ("purged", "ended"):
        if at := one[f"{state}_at"]:
            words.append(f"{state} {at[:10]}")
            break
    return printable("  ".join(words))
