"""`tenantry changes`: shows what changed, follows it under a name, and looks after those who are told."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry import mirror
from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect, run
from tenantry.errors import ConfigurationError
from tenantry.terminal import change_line, printable

if TYPE_CHECKING:
    import psycopg

app = typer.Typer(help="Show what changed in the mirror, and look after those who are told of it.")

POLL_SECONDS = 2
_BUSY_SECONDS = 0.5
_PAGE = 200
_Show = Callable[[list[dict[str, Any]]], None]

Name = Annotated[str, typer.Argument(help="The consumer's name: see `tenantry changes list`.")]


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more. Ctrl-C stops.")] = False,
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Read as this consumer: the next time goes on where this one stops."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only these: member.joined, or member.*. Repeatable."),
    ] = None,
    from_: Annotated[
        str, typer.Option("--from", metavar="now|beginning", help="Where a name that is new, or no name, starts.")
    ] = "now",
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Print changes, one a line. With --as each is printed at least once: again only after a crash."""
    if context.invoked_subcommand is not None:
        return
    from tenantry.changes import check_kinds

    kinds = check_kinds(kind or ["*"])
    if from_ not in ("now", "beginning"):
        raise ConfigurationError(
            f"Changes cannot be read from {from_!r}.", hint="Write --from now or --from beginning."
        )
    with connect(database_url) as connection:
        connection.execute("listen tenantry_changes")
        reader = _Named(connection, as_, kinds, from_) if as_ else _Nameless(connection, kinds, from_)
        try:
            _read(connection, reader.next, _print_json if as_json else _print_lines, follow=follow)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


@app.command("list")
def list_(database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """List the consumers: how far each is, and what holds it up. Exits with 1 where one has failed."""
    with connect(database_url) as connection:
        found = mirror.decode(run(connection, mirror.list_consumers()))
    if as_json:
        typer.echo(json.dumps(found))
    elif not found:
        typer.echo("Nobody is told of changes yet.")
    for one in [] if as_json else found:
        _print_consumer(one)
    raise typer.Exit(1 if any(one["state"] != "reading" for one in found) else 0)


@app.command()
def resume(name: Name, database_url: DatabaseUrl = None) -> None:
    """Have a consumer that failed try again at once."""
    with connect(database_url) as connection:
        run(connection, mirror.resume_consumer(name))
    typer.echo(f"{name} is told again of the change it failed at.")


@app.command()
def skip(name: Name, database_url: DatabaseUrl = None) -> None:
    """Pass over the change at which a consumer failed: it is never told of it."""
    with connect(database_url) as connection:
        told = mirror.decode(run(connection, mirror.resume_consumer(name, skip=True)))
    typer.echo(f"{name} goes on after change {told['skipped']}.")


@app.command()
def remove(name: Name, database_url: DatabaseUrl = None) -> None:
    """Forget a consumer and its position. Exits with 1 where there is none."""
    with connect(database_url) as connection:
        removed = mirror.decode(run(connection, mirror.remove_consumer(name)))["removed"]
    typer.echo(f"{name} is removed." if removed else f"There is no consumer {name}.")
    raise typer.Exit(0 if removed else 1)


class _Nameless:
    """Reads without leaving a trace."""

    def __init__(self, connection: psycopg.Connection[Any], kinds: tuple[str, ...], start: str) -> None:
        self._connection = connection
        self._kinds = kinds
        row = (
            connection.execute("select coalesce(max(pos), 0) from tenantry.changes").fetchone()
            if start == "now"
            else None
        )
        self._after = row[0] if row else 0

    def next(self, show: _Show) -> float:
        """Shows the next page; how many seconds to wait for another."""
        from tenantry.changes import is_of_kinds

        page = mirror.decode(run(self._connection, mirror.read_changes(self._after, _PAGE)))
        show([change for change in page["changes"] if is_of_kinds(change["kind"], self._kinds)])
        self._after = page["pos"]
        return 0 if len(page["changes"]) == _PAGE else POLL_SECONDS


class _Named:
    """Reads as a consumer: what is shown and its position go together, save that a crash in between shows it again."""

    def __init__(self, connection: psycopg.Connection[Any], name: str, kinds: tuple[str, ...], start: str) -> None:
        self._connection = connection
        self._name = name
        self._kinds = kinds
        run(connection, mirror.add_consumer(name, kinds, start))

    def next(self, show: _Show) -> float:
        """Shows the next page; how many seconds to wait for another."""
        read = mirror.decode(run(self._connection, mirror.read_consumer(self._name, self._kinds, _PAGE)))
        if read["state"] in ("parked", "absent"):
            raise ConfigurationError(
                f"The consumer {self._name!r} is {read['state']}.", hint="See `tenantry changes list`."
            )
        if read["state"] != "ready":
            return _BUSY_SECONDS
        if read["reached"] == read["pos"]:
            return POLL_SECONDS
        with self._connection.transaction():  # holds the consumer: nobody else shows the same
            move = mirror.advance_consumer(self._name, read["reached"], read["pos"])
            if mirror.decode(run(self._connection, move))["taken"]:
                return _BUSY_SECONDS
            show(read["changes"])
        return 0 if read["more"] else POLL_SECONDS


def _read(
    connection: psycopg.Connection[Any], show_next: Callable[[_Show], float], show: _Show, *, follow: bool
) -> None:
    while True:
        run(connection, mirror.sequence_changes())
        pause = show_next(show)
        if pause >= POLL_SECONDS and not follow:
            return
        if pause:
            for _ in connection.notifies(timeout=pause, stop_after=1):
                pass


def _print_json(changes: list[dict[str, Any]]) -> None:
    _print([json.dumps(change) for change in changes])


def _print_lines(changes: list[dict[str, Any]]) -> None:
    lines = []
    for change in changes:
        about = [change["object_id"], change["tenant_id"] and f"tenant {change['tenant_id']}", change["user_id"]]
        lines.append("".join(change_line(change["at"][:19], change["kind"], about, change["cause"])))
    _print(lines)


def _print(lines: list[str]) -> None:
    for line in lines:
        typer.echo(line)


def _print_consumer(one: dict[str, Any]) -> None:
    typer.echo(f"{printable(one['name'])}  {one['state']}  {' '.join(one['kinds'])}  {one['behind']} to come")
    if one["failing"]:
        change = one["failing"]
        about = printable(f"{change['kind']} {change['object_id']}")
        typer.echo(f"  failed {one['attempts']} times at change {change['pos']} ({about})")
        typer.echo(f"  {printable(one['error'])}")
        if one["parked_at"]:
            typer.echo(f"  Next: tenantry changes resume {shlex.quote(one['name'])}, or skip")
