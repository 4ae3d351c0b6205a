"""`tenantry users`: removes a person's data from mirror, inbox and feed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry import mirror
from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect, run
from tenantry.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

app = typer.Typer(help="Remove a person's data.", no_args_is_help=True)

_WHAT = {
    "users": "names, address, picture and metadata of the user",
    "tenant_memberships": "metadata of memberships",
    "invitations": "addresses and metadata of invitations",
    "webhook_events": "what deliveries told, dead letters among them",
    "changes": "metadata in the feed",
}


@app.callback()
def users() -> None:
    """Remove a person's data."""


@app.command()
def erase(
    user_id: Annotated[str, typer.Argument(metavar="USER_ID", help="Clerk's id, user_…")],
    email: Annotated[
        list[str] | None,
        typer.Option("--email", metavar="ADDRESS", help="An address of theirs to look for. Repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would be removed.")] = False,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Remove what mirror, inbox and feed hold of a deleted user, save the id. Exits with 1 for one who is not deleted.

    Once the user is deleted the mirror has no address of theirs: name those you know, and invitations and deliveries
    that name nothing else are found too. Tables of your app are not touched. One that was stopped is run again.
    """
    _check(user_id, email or ())
    with connect(database_url) as connection:
        told = _erase(connection, user_id, email or (), dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps(told | {"dry_run": dry_run}))
    elif told["user"] == "live":
        typer.secho(
            f"{user_id} is not deleted: Clerk would tell it all again. Delete the user at Clerk first; if the webhook "
            "does not come, run `tenantry reconcile`.",
            fg="red",
            err=True,
        )
    else:
        _print(user_id, told, dry_run=dry_run)
    raise typer.Exit(1 if told["user"] == "live" else 0)


def _check(user_id: str, emails: Iterable[str]) -> None:
    if not re.fullmatch(r"user_\w+", user_id):
        raise ConfigurationError(f"{user_id!r} is no user's id.", hint="Clerk's begin with user_.")
    for email in emails:
        if not re.fullmatch(r"[^\s@\"\\\\<>(),;:]+@[^\s@\"\\\\<>(),;:]+", email):
            raise ConfigurationError(f"{email!r} is no e-mail address.", hint="Write it like ana@example.com.")


def _erase(connection: Connection, user_id: str, emails: Sequence[str], *, dry_run: bool) -> dict[str, Any]:
    """Part by part, each in a transaction of its own, so that webhooks need not wait for the whole inbox to be read."""
    rows: Counter[str] = Counter()
    found: dict[str, Any] = {"emails": emails, "after": None, "done": False}
    user = None
    while not found["done"]:
        with connection.transaction(force_rollback=dry_run):
            found = mirror.decode(run(connection, mirror.erase_user(user_id, found["emails"], found["after"])))
        rows.update(found["rows"])
        user = user or found["user"]
    return {"user": user, "rows": dict(rows)}


def _print(user_id: str, told: dict[str, Any], *, dry_run: bool) -> None:
    for table, count in told["rows"].items():
        typer.echo(f"{count:>6,}  tenantry.{table}: {_WHAT[table]}")
    if told["user"] == "unknown":
        typer.echo(f"The mirror has no user {user_id}: nothing keeps a late event from making one.")
    elif dry_run:
        typer.echo("Nothing is removed yet: run it without --dry-run.")
    else:
        typer.echo(f"The id {user_id} stays, and that they are gone. Tables of your app are yours to look through.")
