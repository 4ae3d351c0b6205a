"""`tenantry adopt report`: counts what isolation would refuse, before it does."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tenantry.cli.adopt import FILE, File
from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect

if TYPE_CHECKING:
    from tenantry.adopt.report import Report


def report(
    seconds: Annotated[float, typer.Option("--for", min=0.1, metavar="SECONDS", help="How long to watch.")] = 60,
    sample: Annotated[float, typer.Option(min=0.0001, max=1, help="The share of transactions to look at.")] = 0.01,
    owner: Annotated[bool, typer.Option("--owner", help="Watch the tables' owner too: the app logs in as it.")] = False,
    slow: Annotated[
        bool, typer.Option("--slow", help="Watch tables too whose indexes of expressions are of no use meanwhile.")
    ] = False,
    off: Annotated[bool, typer.Option("--off", help="Take away what a killed watcher left.")] = False,
    file: File = FILE,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Watch the running app: transactions without a tenant, and rows of another tenant read or written.

    Nothing it finds is refused, and nothing is left behind. While it watches, conditions such as LIKE find no index and
    COPY FROM is refused, as behind isolation: try it where that may be. Exits with 1 where something was found.
    """
    from tenantry.adopt import config, move
    from tenantry.adopt import report as reports

    chosen = config.load(file)
    with connect(database_url) as connection, move.as_owner(connection, chosen) as schema:
        if off:
            left = reports.switch_off(connection, schema)
            typer.echo(f"Taken from {', '.join(left)}." if left else "There was nothing.")
            return
        found = reports.observe(
            connection,
            chosen,
            schema,
            seconds=seconds,
            sample=sample,
            owner=owner,
            slow=slow,
            begun=lambda: typer.echo(f"Watching for {seconds:g} s; Ctrl-C ends it sooner.", err=True),
        )
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        _print(found)
    raise typer.Exit(1 if found.found else 0)


def _print(report: Report) -> None:
    from tenantry.adopt.report import KINDS

    for table, reason in report.unseen.items():
        typer.echo(f"{table}  not watched: {reason}")
    for found in report.found:
        rows = f", at least {found.rows} rows" if found.rows else ""
        named = f" [{found.query_id}]" if found.query_id else ""
        typer.secho(f"{found.table}  {KINDS[found.kind]}: {found.transactions} transactions{rows}", fg="red")
        typer.echo(f"  {found.query}{named}")
    share = "every transaction" if report.sample == 1 else f"1 transaction in {1 / report.sample:,.0f}"
    typer.echo(f"{len(report.found)} findings in {report.seconds:.0f} s, of {share} on {len(report.tables)} tables.")
    if not report.found:
        typer.echo("Next: tenantry adopt apply --to isolate")
