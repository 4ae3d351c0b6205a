"""`tenantry reconcile`: makes the mirror what Clerk lists, or says where the two differ."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tenantry.cli.db import DatabaseUrl, Json
from tenantry.terminal import printable

if TYPE_CHECKING:
    from rich.progress import TaskID

    from tenantry.reconcile import Plan, Progress, Report
    from tenantry.settings import Settings

_TIMEOUT_SECONDS = 120  # for a statement: a page takes a fraction of a second, a look at the whole mirror some more


def reconcile(
    org: Annotated[str | None, typer.Option(metavar="ORG_ID", help="One organization alone.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, print each difference.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Organizations; where members are miscounted, those; ties and stubs.")
    ] = False,
    allow_mass_end: Annotated[
        bool, typer.Option("--allow-mass-end", help="Release the brake: end more than its share of a kind.")
    ] = False,
    brake: Annotated[float, typer.Option(min=0, max=1, help="The share of a kind that a run may end.")] = 0.05,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but what is left to do.")] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Mirror everything that Clerk lists. Exits with 1 where mirror and Clerk still differ.

    A run that was stopped goes on where it was. Asks Clerk with CLERK_SECRET_KEY.
    """
    from tenantry.errors import ConfigurationError
    from tenantry.reconcile import Plan

    if quick and (org or dry_run):
        raise ConfigurationError("--quick goes with neither --org nor --dry-run.")
    plan = Plan(org_id=org, dry_run=dry_run, quick=quick, allow_mass_end=allow_mass_end, brake=brake)
    settings = _settings(database_url)
    with _progress(hidden=quiet or as_json) as progress:
        report = asyncio.run(_run(settings, plan, progress))
    if as_json:
        typer.echo(json.dumps({**asdict(report), "agrees": report.agrees}))
    else:
        _print(report, plan, quiet=quiet)
    raise typer.Exit(0 if report.agrees else 1)


def _settings(database_url: str | None) -> Settings:
    import os

    from tenantry import schema
    from tenantry.database import connect
    from tenantry.settings import Settings

    url = database_url or os.environ.get("TENANTRY_MIGRATION_URL") or os.environ.get("DATABASE_URL")
    with connect(url) as connection:  # says what is wrong with URL, login or schema
        schema.require(connection)
    return Settings.from_env(database_url=url)


async def _run(settings: Settings, plan: Plan, progress: Progress) -> Report:
    from tenantry import reconcile
    from tenantry.clerk import open_api
    from tenantry.pool import Pool

    pool = Pool(settings.database_url or "", timeout=_TIMEOUT_SECONDS)
    async with open_api(settings) as api:
        await pool.open()
        try:
            return await reconcile.reconcile(api, pool, plan, progress)
        finally:
            await pool.close()


@contextmanager
def _progress(*, hidden: bool) -> Iterator[Progress]:
    """A bar for each kind, with its rate and the time left, on a terminal's error stream."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.progress import Task as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Bar) -> Text:
            return Text(f"{task.speed or 0:,.0f}/s")

    columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True), disable=hidden or not sys.stderr.isatty()) as bars:

        def show(kind: str, done: int, total: int) -> None:
            if kind not in tasks:
                tasks[kind] = bars.add_task(kind, total=total)
            bars.update(tasks[kind], completed=done, total=total)

        yield show


def _print(report: Report, plan: Plan, *, quiet: bool) -> None:
    for drift in report.drift:
        shown = f"{drift.field}: mirror {_shown(drift.mirror)}, Clerk {_shown(drift.clerk)}"
        typer.echo(printable(f"{drift.kind} {drift.id}  {shown}"))
        typer.echo(f"  likely cause: {drift.cause}")
    if report.drifted > len(report.drift):
        typer.echo(f"... and {report.drifted - len(report.drift)} differences more")
    if report.drifted:
        typer.echo(f"{report.drifted} differences. Next: tenantry reconcile")
    for kind, tally in report.tallies.items():
        if not quiet and not plan.dry_run:
            typer.echo(f"{kind:<14}{_sums(asdict(tally))}")
        _print_left(kind, tally.braked, tally.unconfirmed, tally.unreadable)
    if not quiet:
        typer.echo(f"Done in {report.seconds:.1f} s{', with the pages of a stopped run' if report.resumed else ''}.")


def _print_left(kind: str, braked: int, unconfirmed: int, unreadable: int) -> None:
    if braked:
        typer.secho(
            f"{kind}: {braked} are gone at Clerk, more than the brake lets a run end. None was ended. "
            "If it is true, run again with --allow-mass-end.",
            fg="red",
            err=True,
        )
    if unconfirmed:
        typer.secho(
            f"{kind}: {unconfirmed} are not listed, and Clerk's answers about them disagree. None of those was ended: "
            "run again.",
            fg="red",
            err=True,
        )
    if unreadable:
        typer.secho(f"{kind}: {unreadable} could not be read; the log names them.", fg="red", err=True)


def _sums(tally: dict[str, int]) -> str:
    told = [f"{tally['listed']:,} listed"]
    told += [f"{number:,} {name}" for name in ("created", "updated", "ended") if (number := tally[name])]
    return ", ".join(told)


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
