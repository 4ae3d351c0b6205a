"""`tenantry adopt`: moves a live app's tables behind tenant isolation, step by step, and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect
from tenantry.errors import AdoptionRefused, ConfigurationError

if TYPE_CHECKING:
    import psycopg
    from rich.progress import Progress as Bars

    from tenantry.adopt.catalog import Schema
    from tenantry.adopt.ownership import Proposal
    from tenantry.adopt.plan import Plan, Rows
    from tenantry.adopt.record import Entry
    from tenantry.adopt.step import Phase, Step
    from tenantry.adopt.verify import Report

app = typer.Typer(help="Move an app's tables behind tenant isolation while it keeps serving.", no_args_is_help=True)

File = Annotated[Path, typer.Option("--file", help="The plan.")]
_FILE = Path("adopt.toml")


@app.command()
def plan(
    to: Annotated[
        str | None, typer.Option(metavar="personal|organization|column|csv", help="Where a user's rows go.")
    ] = None,
    organization: Annotated[str, typer.Option(metavar="ORG_ID", help="Of --to organization: whose they are.")] = "",
    column: Annotated[str, typer.Option(metavar="COLUMN", help="Of --to column: of the users' table.")] = "",
    by: Annotated[str, typer.Option(metavar="domain", help="Of --to column: by what is behind the @.")] = "",
    csv: Annotated[str, typer.Option("--csv", metavar="FILE", help="Of --to csv: lines of a user's key, org_...")] = "",
    graph: Annotated[bool, typer.Option("--graph", help="Print who owns whom, as Mermaid.")] = False,
    file: File = _FILE,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Propose whose the rows of each table are, in adopt.toml; where that is there, say how the database differs.

    Exits with 1 where something is left to decide, differs, or is in the way.
    """
    from tenantry.adopt import config, drift, move, record
    from tenantry.adopt import graph as pictures

    known = config.load(file) if file.exists() else None
    with connect(database_url) as connection:
        schema = move.read_schema(connection)
        rows = known.rows if known and to is None else _rows(to, organization, column, by, csv)
        proposed, why = _propose(connection, schema, rows, known)
        chosen = known or proposed
        if known is None:
            file.write_text(config.write(proposed, why), encoding="utf-8")
        if graph:
            typer.echo(pictures.mermaid(chosen, schema), nl=False)
            return
        begun = record.exists(connection)  # from then on the plan is what it was begun with
        found = _Found(
            proposals=why,
            questions=[decision.table for decision in chosen.decisions if decision.tenant == "undecided"],
            differences=move.list_news(connection) if begun else _differences(known, proposed, why) if known else [],
            drift=drift.find(connection, chosen, schema),
        )
        if known is None and not as_json:
            _print_proposals(proposed, why, file)
        if not found.questions and not found.differences:
            found.look_ahead(connection, chosen)
    if as_json:
        typer.echo(json.dumps({"plan": asdict(chosen), **found.told()}))
    else:
        found.print_rest(file)
    raise typer.Exit(0 if found.is_ready else 1)


@app.command()
def apply(
    to: Annotated[
        str,
        typer.Option(metavar="expand|backfill|constrain|isolate|contract", help="Do all up to and with this phase."),
    ] = "constrain",
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL of all steps, and how to undo each; do nothing.")
    ] = False,
    alembic: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write a revision for each phase into this folder instead.")
    ] = None,
    after: Annotated[str | None, typer.Option(metavar="REVISION", help="With --alembic: which they follow.")] = None,
    lock_ms: Annotated[int, typer.Option(min=1, help="How long a statement waits for a lock, at once.")] = 50,
    batch_ms: Annotated[int, typer.Option(min=1, help="About how long a batch takes.")] = 40,
    rest: Annotated[float, typer.Option(min=0, help="How long it rests after a batch, in batches.")] = 0.0,
    patience: Annotated[float, typer.Option(min=1, help="Seconds after which a step that got no lock gives up.")] = 600,
    differing: Annotated[
        bool, typer.Option("--differing", help="Isolate rows that have another tenant than their owner, too.")
    ] = False,
    no_checksums: Annotated[
        bool, typer.Option("--no-checksums", help="Begin without reading all rows; `verify` cannot compare them then.")
    ] = False,
    file: File = _FILE,
    database_url: DatabaseUrl = None,
) -> None:
    """Do the steps of the plan, and go on where an earlier run was stopped.

    Up to `constrain` an app that knows nothing of tenants goes on as it is. Before `isolate` deploy the one that sets a
    tenant in each transaction. What `contract` drops cannot be brought back.
    """
    from tenantry.adopt import config, move
    from tenantry.adopt.runner import Pace

    last, chosen = _phase(to), config.load(file)
    with connect(database_url) as connection:
        if sql:
            _print_script(move.preview(connection, chosen))
            return
        if alembic:
            _write_revisions(move.preview(connection, chosen), file, alembic, after)
            return
        for line in move.list_notices(connection, chosen):
            typer.secho(line, fg="yellow", err=True)
        with _watching() as watcher:
            pace = Pace(lock_ms, batch_ms, rest, patience)
            move.apply(
                connection,
                chosen,
                last,
                pace,
                watcher,
                differing=differing,
                checksums=not no_checksums,
                told=watcher.read,
            )
    typer.echo(f"Done up to {last}. Next: {_NEXT[last]}")


@app.command()
def status(as_json: Json = False, database_url: DatabaseUrl = None) -> None:
    """Say how far the move is. Exits with 1 where steps are left to do, or none has begun."""
    from tenantry.adopt import move
    from tenantry.adopt.step import PHASES

    with connect(database_url) as connection:
        entries = move.read_progress(connection)
        told = [*move.list_news(connection), *move.list_waiting(connection)]
    if as_json:
        typer.echo(json.dumps([{"position": entry.position, **_brief(entry)} for entry in entries]))
    elif not entries:
        typer.echo("No move has begun here. Next: tenantry adopt plan")
    for phase in () if as_json or not entries else PHASES:
        found = [entry for entry in entries if entry.step.phase == phase]
        done = sum(entry.state == "done" for entry in found)
        typer.echo(f"{phase:<10} {done} of {len(found)} steps done")
    next_one = next((entry for entry in entries if entry.state != "done"), None)
    if next_one and not as_json:
        typer.echo(f"{'Broken off in' if next_one.state == 'running' else 'Next'}: {next_one.step.name}")
    for sentence in () if as_json else told:
        typer.secho(sentence, fg="yellow", err=True)
    raise typer.Exit(1 if next_one or not entries else 0)


def _brief(entry: Entry) -> dict[str, Any]:
    told = {"phase": entry.step.phase, "name": entry.step.name, "table": entry.step.table, "state": entry.state}
    return told | {"rows": entry.rows, "held_ms": entry.held_ms}


@app.command()
def undo(
    back_to: Annotated[
        str,
        typer.Option("--before", metavar="expand|backfill|constrain|isolate", help="Undo this phase and all after it."),
    ] = "expand",
    database_url: DatabaseUrl = None,
) -> None:
    """Undo the steps that were done, last first, until the database is as it was. Not after `contract` has begun."""
    from tenantry.adopt import move
    from tenantry.adopt.runner import Pace

    first = _phase(back_to)
    with connect(database_url) as connection, _watching() as watcher:
        move.undo(connection, first, Pace(), watcher)
    typer.echo("Undone.")


@app.command()
def verify(
    still: Annotated[
        bool, typer.Option("--still", help="The app writes nothing: any difference is a finding.")
    ] = False,
    file: File = _FILE,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Compare rows and tenants with what they were and should be. Exits with 1 where something is wrong."""
    from tenantry.adopt import config, move

    chosen = config.load(file)
    with connect(database_url) as connection, _watching() as watcher:
        report = move.check(connection, chosen, still=still, told=watcher.read)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "clean": report.clean}))
    else:
        _print_report(report)
    raise typer.Exit(0 if report.clean else 1)


_NEXT = {
    "expand": "tenantry adopt apply --to backfill",
    "backfill": "tenantry adopt apply --to constrain",
    "constrain": "tenantry adopt verify; deploy the app that sets a tenant; tenantry adopt apply --to isolate",
    "isolate": "tenantry adopt verify; then, for good, tenantry adopt apply --to contract",
    "contract": "tenantry adopt verify",
}


def _phase(name: str) -> Phase:
    from tenantry.adopt.step import PHASES

    for phase in PHASES:
        if phase == name:
            return phase
    raise ConfigurationError(f"{name!r} is no phase.", hint=f"The phases are {', '.join(PHASES)}.")


def _rows(to: str | None, organization: str, column: str, by: str, csv: str) -> Rows:
    from tenantry.adopt.plan import PLACES, Rows

    given = {"organization": organization, "column": column, "csv": csv}
    to = to or next((name for name, value in given.items() if value), "personal")
    for place in PLACES:
        if place == to:
            return Rows(to=place, organization=organization, column=column, by=by, csv=csv)
    raise ConfigurationError(f"Rows cannot go to {to!r}.", hint=f"They go to {', '.join(PLACES)}.")


def _propose(
    connection: psycopg.Connection[Any], schema: Schema, rows: Rows, known: Plan | None
) -> tuple[Plan, dict[str, Proposal]]:
    """A plan, with the values of the column that rows go by, for a person to say which organization each is."""
    from tenantry.adopt import ownership, preflight

    users, organizations = (known.users, known.organizations) if known else (None, None)
    plan, why = ownership.propose(schema, rows, users, organizations)
    if known is None and rows.to == "column" and not rows.csv:
        values = dict.fromkeys(preflight.list_values(connection, plan, schema), "")
        plan = replace(plan, rows=replace(rows, organizations=values))
    return plan, why


@dataclass
class _Found:
    """What `plan` has to say besides the plan."""

    proposals: dict[str, Proposal]
    questions: list[str]
    differences: list[str]
    drift: list[str]
    notices: Sequence[str] = ()
    steps: Sequence[Entry] = ()
    problem: AdoptionRefused | None = None

    @property
    def is_ready(self) -> bool:
        return not (self.questions or self.differences or self.problem)

    def look_ahead(self, connection: psycopg.Connection[Any], chosen: Plan) -> None:
        from tenantry.adopt import move

        try:
            self.steps = move.preview(connection, chosen)
            self.notices = move.list_notices(connection, chosen)
        except AdoptionRefused as error:
            self.problem = error

    def told(self) -> dict[str, Any]:
        steps = [{"state": entry.state, **asdict(entry.step), "seconds": entry.step.seconds} for entry in self.steps]
        proposals = {name: asdict(each) for name, each in self.proposals.items()}
        problem = str(self.problem) if self.problem else None
        return {
            "proposals": proposals,
            "differences": self.differences,
            "drift": self.drift,
            "notices": list(self.notices),
            "problem": problem,
            "steps": steps,
        }

    def print_rest(self, file: Path) -> None:
        """What there is to decide, else what is in the way, else what there is to do."""
        for line in [*self.drift, *self.notices, *self.differences]:
            typer.echo(line)
        if self.questions:
            typer.echo(f"{len(self.questions)} to decide. Next: edit {file}.")
        if self.problem:
            raise self.problem
        if self.is_ready:
            _print_phases([entry.step for entry in self.steps])
            typer.echo("Next: tenantry adopt apply --sql")


# --- printing ---------------------------------------------------------------------------------------------------------


def _print_proposals(proposed: Plan, why: dict[str, Proposal], file: Path) -> None:
    for decision in proposed.decisions:
        proposal = why[decision.table]
        how = " ".join([decision.tenant, ", ".join(decision.column) or decision.mode]).strip()
        typer.echo(f"{decision.table}  {how}\n  {proposal.confidence}: {proposal.reason}")
        for choice in proposal.choices:
            typer.echo(f"  or {choice.tenant} {', '.join(choice.column) or choice.mode}")
    typer.echo(f"Wrote {file}.")


def _print_phases(steps: Sequence[Step]) -> None:
    """Rows, time and the strongest lock by phase."""
    from tenantry.adopt.step import PHASES

    for phase in PHASES:
        found = [step for step in steps if step.phase == phase]
        rows, seconds = sum(step.rows for step in found), sum(step.seconds for step in found)
        locks = {step.lock for step in found if step.how == "together"}
        lock = next((f"{lock}: {felt}" for lock, felt in _LOCKS.items() if lock in locks), "no lock that is felt")
        typer.echo(f"{phase:<10} {len(found):>5} steps, {rows:>12,} rows, about {seconds:,.0f} s; {lock}")


_LOCKS = {
    "ACCESS EXCLUSIVE": "nobody reads or writes, for milliseconds",
    "SHARE ROW EXCLUSIVE": "nobody writes, for milliseconds",
    "SHARE": "nobody writes, for milliseconds",
}


def _differences(known: Plan, proposed: Plan, why: dict[str, Proposal]) -> list[str]:
    """What is in one and not in the other; a decision of a person is no difference."""
    from tenantry.adopt import config

    there, here = {d.table for d in known.decisions}, {d.table for d in proposed.decisions}
    lines = [f"{table} is in the plan, and not (any more) open in the database." for table in sorted(there - here)]
    for decision in proposed.decisions:
        if decision.table not in there:
            lines.append(f"{decision.table} is not in the plan. Add:\n{config.table(decision, why[decision.table])}")
    return lines


def _print_script(entries: Sequence[Entry]) -> None:
    phase = ""
    for entry in entries:
        if entry.step.phase != phase:
            phase = entry.step.phase
            typer.echo(f"-- === {phase} ===\n")
        typer.echo(_script(entry.step) + "\n")


def _write_revisions(entries: Sequence[Entry], file: Path, folder: Path, after: str | None) -> None:
    from tenantry.adopt import revisions
    from tenantry.adopt.step import PHASES

    steps = [entry.step for entry in entries]
    scripts = {phase: "\n\n".join(_script(step) for step in steps if step.phase == phase) for phase in PHASES}
    for path in revisions.write(folder, file, scripts, after):
        typer.echo(f"Wrote {path}.")
    typer.echo("Next: alembic upgrade tenantry_adopt_3_constrain")


def _script(step: Step) -> str:
    """A step's SQL as a person would run it, and, as comments, how to undo it."""
    head = f"-- {step.name}" + (f" [{step.lock}]" if step.lock else "") + f", about {step.seconds:.0f} s"
    if step.how == "partitions":  # nothing to run where none was added, or in the words of a table's own partitions
        lines = [f"{statement};" for part in step.parts for statement in part.sql]
        return "\n".join([f"-- {step.name}, for each {{leaf}} that was added meanwhile:", *_comment("\n".join(lines))])
    notes = {
        "together": "begin;",
        "batches": f"-- for pages {{first}} to {{last}} of {', '.join(step.leaves)}, and so on, a transaction each:",
        "check": "-- must be 0:",
    }
    lines = [head, notes.get(step.how, ""), *(f"{statement};" for statement in step.sql)]
    lines += ["commit;"] if step.how == "together" else []
    undo = "\n".join(f"{statement};" for statement in step.undo)
    return "\n".join(filter(None, [*lines, *(f"-- undo: {line}" for line in undo.splitlines())]))


def _comment(text: str) -> list[str]:
    return [f"-- {line}" for line in text.splitlines()]


def _print_report(report: Report) -> None:
    for count in report.counts:
        since = "" if count.before is None else f", {count.before} when the move began"
        same = {None: "", True: ", unchanged", False: ", changed since"}[count.same]
        typer.echo(f"{count.table}  {count.rows} rows{since}{same}")
    for finding in report.findings:
        typer.secho(f"{finding.kind}  {finding.table}  {finding.message}", fg="red")
    for note in report.notes:
        typer.secho(note, fg="yellow")
    typer.echo(f"{len(report.findings)} findings." if report.findings else "Nothing found.")


@contextmanager
def _watching() -> Iterator[_Watcher]:
    """Each step's SQL on standard output; a bar for batches, on a terminal's error stream."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        yield _Watcher(bars)


@dataclass
class _Watcher:
    bars: Bars
    bar: Any = None
    table: str = ""

    def read(self, table: str, done: int, total: int) -> None:
        """Of the checksums, which are read before the first step, and by `verify`."""
        if table != self.table:
            self.table, bar = table, self.bars.add_task(f"reading {table}", total=total)
            self._replace(bar)
        self.bars.update(self.bar, completed=done)
        if done >= total:
            self._replace(None)

    def _replace(self, bar: Any) -> None:
        if self.bar is not None:
            self.bars.remove_task(self.bar)
        self.bar = bar

    def begin(self, entry: Entry, total: int, *, undo: bool) -> None:
        step = entry.step
        typer.echo(f"[{entry.position}/{total}] {'undo ' if undo else ''}{step.phase}: {step.name}")
        for statement in step.undo if undo else step.sql:
            typer.echo("    " + statement.replace("\n", "\n    ") + ";")
        self._replace(self.bars.add_task(step.table, total=1) if step.how == "batches" and not undo else None)

    def progress(self, entry: Entry, done: int, total: int) -> None:
        if self.bar is not None:
            self.bars.update(self.bar, completed=done, total=total)

    def end(self, entry: Entry, *, undo: bool) -> None:
        self._replace(None)
