"""`tenantry events`: the deliveries in the inbox: lists, shows, replays, discards and forgets them."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry import mirror
from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect, run
from tenantry.errors import ConfigurationError, DatabaseUnavailable, TenantryError
from tenantry.terminal import printable

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

app = typer.Typer(help="List, show, replay, discard and forget the deliveries in the inbox.", no_args_is_help=True)

OUTCOMES = ("applied", "stale", "ignored", "failed", "refused")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PAGE = 100
_LEFT = ("failed", "refused", "empty", "unknown")  # a replay that brought nothing into the mirror

Types = Annotated[
    list[str] | None, typer.Option("--type", metavar="TYPE", help="user.created, or organization.*. Repeatable.")
]
Organization = Annotated[str | None, typer.Option("--org", metavar="ORG_ID", help="About this organization.")]
User = Annotated[str | None, typer.Option("--user", metavar="USER_ID", help="About this user.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Received since: 2h, 7d, or 2026-05-01T12:00 (UTC).")
]


@app.command("list")
def list_(
    type: Types = None,
    outcome: Annotated[
        list[str] | None, typer.Option("--outcome", metavar="OUTCOME", help=f"{', '.join(OUTCOMES)}. Repeatable.")
    ] = None,
    org: Organization = None,
    user: User = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 50,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """List deliveries, the newest first: when, outcome, type, id, whom it is about, and why it failed."""
    wanted = _filters(type, outcome, org, user, since) | {"limit": limit}
    with connect(database_url) as connection:
        found = mirror.decode(run(connection, mirror.list_events(wanted)))
    for one in found:
        typer.echo(json.dumps(one)) if as_json else _print_line(one)
    if not found and not as_json:
        typer.echo("No such delivery.")


@app.command()
def show(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The message id, msg_…")],
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Show a delivery: what became of it, what it told, and what changed because of it."""
    with connect(database_url) as connection:
        found = mirror.decode(run(connection, mirror.read_event(message_id)))
    if as_json:
        typer.echo(json.dumps(found))
    elif found is None:
        typer.secho(f"There is no delivery {message_id}: it never came, or was forgotten.", fg="red", err=True)
        typer.echo("Next: tenantry events list", err=True)
    else:
        _print_event(found)
    raise typer.Exit(0 if found else 1)


@app.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Message ids.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All dead letters that fit the filters.")] = False,
    type: Types = None,
    org: Organization = None,
    user: User = None,
    since: Since = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would happen.")] = False,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Merge deliveries again: dead letters after a fix. Exits with 1 where one could not be merged.

    It is the same merge as when they came, as of the time they came: replaying again changes nothing.
    """
    filters = _filters(type, ["failed"], org, user, since)
    if failed == bool(ids):
        raise ConfigurationError("Name message ids, or --failed.")
    if ids and filters.keys() != {"outcomes"}:
        raise ConfigurationError("Filters go with --failed, not with message ids.")
    tally: Counter[str] = Counter()
    with connect(database_url) as connection:
        keep = _keeps_private_metadata()
        for batch in _pages(connection, filters) if failed else _batches(ids or ()):
            for told in _replay(connection, batch, dry_run=dry_run, keep=keep):
                tally[told["outcome"]] += 1
                typer.echo(json.dumps(told)) if as_json else _print_replay(told)
        if not dry_run:
            run(connection, mirror.announce_changes())
    if not as_json:
        _print_tally(tally, dry_run=dry_run)
    raise typer.Exit(1 if any(tally[outcome] for outcome in _LEFT) else 0)


@app.command()
def discard(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Message ids of dead letters.")],
    database_url: DatabaseUrl = None,
) -> None:
    """Delete dead letters and refused deliveries that cannot be mended. Exits with 1 where an id is none."""
    with connect(database_url) as connection:
        discarded = mirror.decode(run(connection, mirror.discard_letters(ids)))["discarded"]
    for id in dict.fromkeys(ids):
        is_gone = id in discarded
        typer.secho(f"{id}  {'discarded' if is_gone else 'is no dead letter'}", fg=None if is_gone else "red")
    raise typer.Exit(0 if {*ids} == {*discarded} else 1)


@app.command()
def forget(
    older_than: Annotated[str, typer.Option("--older-than", metavar="TIME", help="90d; at least 7d.")] = "90d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forget none, count them.")] = False,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Forget deliveries that were applied, stale or ignored. Dead letters stay; the mirror stays as it is."""
    from tenantry.retention import BATCH, horizon

    seconds = _seconds(older_than)
    if seconds is None:
        raise ConfigurationError(f"{older_than!r} is no age.", hint="Write it like 90d.")
    if seconds < 7 * _UNITS["d"]:
        raise ConfigurationError(
            f"{older_than!r} is below 7d: Clerk's sender may bring what is so young again.", hint="Write it like 90d."
        )
    before, forgotten = horizon(seconds), 0
    told: dict[str, Any] = {}
    with connect(database_url) as connection:
        while not told or (told["forgotten"] == BATCH and not dry_run):
            told = mirror.decode(run(connection, mirror.forget_events(before, limit=BATCH, dry_run=dry_run)))
            forgotten += told["forgotten"]
    if as_json:
        typer.echo(json.dumps({**told, "forgotten": forgotten, "dry_run": dry_run}))
        return
    typer.echo(f"{forgotten:,} deliveries {'would be' if dry_run else 'are'} forgotten.")
    if told.get("busy"):
        typer.echo("Another process is forgetting deliveries at this moment.")


# --- what is asked for ------------------------------------------------------------------------------------------------


def _filters(
    types: list[str] | None, outcomes: list[str] | None, org: str | None, user: str | None, since: str | None
) -> dict[str, Any]:
    unknown = sorted(set(outcomes or ()) - set(OUTCOMES))
    if unknown:
        raise ConfigurationError(
            f"No delivery has the outcome {', '.join(unknown)}.", hint=f"Outcomes are {', '.join(OUTCOMES)}."
        )
    given = {"types": types, "outcomes": outcomes, "org_id": org, "user_id": user, "since": _time(since)}
    return {name: value for name, value in given.items() if value}


def _time(text: str | None) -> str | None:
    if text is None:
        return None
    seconds = _seconds(text)
    try:
        moment = datetime.fromisoformat(text) if seconds is None else datetime.now(UTC) - timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{text!r} is no time.", hint="Write 2h, 7d, or a date and time like 2026-05-01T12:00."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _seconds(text: str) -> int | None:
    """Of `90s`, `15m`, `2h` or `7d`; None for anything else."""
    found = re.fullmatch(r"([0-9]{1,5})([smhd])", text.strip().lower())
    return int(found[1]) * _UNITS[found[2]] if found else None


def _keeps_private_metadata() -> bool:
    from tenantry.settings import Settings

    return Settings.from_env().keep_private_metadata


# --- replaying --------------------------------------------------------------------------------------------------------


def _pages(connection: Connection, filters: dict[str, Any]) -> Iterator[list[str]]:
    """The ids of all that fit, the oldest first; those that fail again are not asked for again."""
    after = None
    while True:
        wanted = filters | {"limit": _PAGE, "oldest_first": True, "after": after}
        page = mirror.decode(run(connection, mirror.list_events(wanted)))
        if page:
            yield [one["message_id"] for one in page]
        if len(page) < _PAGE:
            return
        after = {name: page[-1][name] for name in ("received_at", "message_id")}


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    once = list(dict.fromkeys(ids))
    return (once[start : start + _PAGE] for start in range(0, len(once), _PAGE))


def _replay(connection: Connection, ids: list[str], *, dry_run: bool, keep: bool) -> list[dict[str, Any]]:
    """A batch in one transaction; where the database refuses it, one by one, so that one alone fails."""
    from tenantry.database import explain

    try:
        with connection.transaction(force_rollback=dry_run):
            told = mirror.decode(run(connection, mirror.replay_events(ids, keep_private_metadata=keep)))
        return list(told)
    except _database_error() as error:
        refused = explain(error)
    if isinstance(refused, DatabaseUnavailable):
        raise refused
    if len(ids) == 1:
        return [_failure(ids[0], refused)]
    return [told for id in ids for told in _replay(connection, [id], dry_run=dry_run, keep=keep)]


def _database_error() -> type[psycopg.Error]:
    import psycopg

    return psycopg.Error


def _failure(message_id: str, error: TenantryError) -> dict[str, Any]:
    return {"message_id": message_id, "outcome": "failed", "code": error.code, "error": error.message, "changes": []}


# --- what is printed --------------------------------------------------------------------------------------------------


def _print_line(one: dict[str, Any]) -> None:
    about = [each for each in (one["org_id"], one["user_id"]) if each]
    words = [one["received_at"][:19], f"{one['outcome']:<8}", one["type"] or "(no type)", one["message_id"], *about]
    if one["replays"]:
        words.append(f"replayed {one['replays']}x")
    typer.secho(printable("  ".join(words)), fg="red" if one["outcome"] in ("failed", "refused") else None)
    if one["error"]:
        typer.echo(printable(f"  {one['error_code']}: {one['error']}"))


def _print_event(found: dict[str, Any]) -> None:
    _print_line(found)
    facts = {
        "occurred": found["occurred_at"],
        "instance": found["instance_id"],
        "replayed": found["replayed_at"],
        "came with other content": f"{found['conflicts']} times" if found["conflicts"] else None,
    }
    for name, value in facts.items():
        if value:
            typer.echo(printable(f"  {name}: {value}"))
    if found["data"] is not None:
        for line in json.dumps(found["data"], indent=2, ensure_ascii=False).split("\n"):
            typer.echo(printable(line))
    elif found["body"] is not None:
        typer.echo(printable(found["body"]))
    else:
        typer.echo("  Nothing of what it told is kept.")
    for change in found["changes"]:
        typer.echo(printable(f"changed: {change['kind']}  {change['object_id']}"))
    if not found["changes"]:
        typer.echo("It changed nothing in the feed.")
    if found["outcome"] == "failed":
        typer.echo(f"Next: {_next(found['message_id'], can_be_replayed=found['body'] is not None)}")


def _next(message_id: str, *, can_be_replayed: bool) -> str:
    return f"tenantry events {'replay' if can_be_replayed else 'discard'} {shlex.quote(message_id)}"


def _print_replay(told: dict[str, Any]) -> None:
    says = {
        "unchanged": f"{told.get('was')} already: the mirror knows it",
        "empty": f"{told.get('was')}: nothing of it is kept to merge",
        "unknown": "there is no such delivery",
    }
    line = f"{told['message_id']}  {told.get('type') or '(no type)'}  {says.get(told['outcome'], told['outcome'])}"
    typer.secho(printable(line), fg="red" if told["outcome"] in _LEFT else None)
    if told.get("error"):
        typer.echo(f"  {told['code']}: {told['error']}")
    if told["outcome"] == "empty" and told["was"] == "failed":
        typer.echo(f"  Next: {_next(told['message_id'], can_be_replayed=False)}")
    for change in told["changes"]:
        typer.echo(f"  changed: {change['kind']}  {change['object_id']}")


def _print_tally(tally: Counter[str], *, dry_run: bool) -> None:
    if not tally:
        typer.echo("Nothing to replay.")
        return
    typer.echo(", ".join(f"{count:,} {outcome}" for outcome, count in sorted(tally.items())) + ".")
    if dry_run:
        typer.echo("Nothing is changed yet: run it without --dry-run.")
