"""`tenantry adopt`: moves a live app's tables behind tenant isolation, step by step, and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.cli import adopt_progress
from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect
from tenantry.errors import AdoptionRefused, ConfigurationError

if TYPE_CHECKING:
    import psycopg

    from tenantry.adopt.catalog import Schema
    from tenantry.adopt.ownership import Proposal
    from tenantry.adopt.plan import Plan, Rows
    from tenantry.adopt.record import Entry
    from tenantry.adopt.step import Phase
    from tenantry.adopt.verify import Report

app = typer.Typer(help="Move an app's tables behind tenant isolation while it keeps serving.", no_args_is_help=True)

File = Annotated[Path, typer.Option("--file", help="The plan.")]
FILE = Path("adopt.toml")


@app.command()
def plan(
    to: Annotated[
        str | None, typer.Option(metavar="personal|organization|column|csv", help="Where a user's rows go.")
    ] = None,
    organization: Annotated[str, typer.Option(metavar="ORG_ID", help="Of --to organization: whose they are.")] = "",
    column: Annotated[str, typer.Option(metavar="COLUMN", help="Of --to column: of the users' table.")] = "",
    by: Annotated[str, typer.Option(metavar="domain", help="Of --to column: by what is behind the @.")] = "",
    csv: Annotated[str, typer.Option("--csv", metavar="FILE", help="Of --to csv: lines of a user's key, org_...")] = "",
    metadata: Annotated[
        str, typer.Option(metavar="MODULE:BASE", help="Your SQLAlchemy models: what they refer to, too.")
    ] = "",
    app_dir: Annotated[
        Path, typer.Option(exists=True, file_okay=False, resolve_path=True, help="The folder of --metadata's module.")
    ] = Path(),
    graph: Annotated[bool, typer.Option("--graph", help="Print who owns whom, as Mermaid.")] = False,
    steps: Annotated[
        bool, typer.Option("--steps", help="Print what each step will take, not only each phase.")
    ] = False,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw who owns whom into this file.")] = None,
    file: File = FILE,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Propose whose the rows of each table are, in adopt.toml; where that is there, say how the database differs.

    Exits with 1 where something is left to decide, differs, or is in the way.
    """
    from tenantry.adopt import config, drift, move, record

    known = config.load(file) if file.exists() else None
    asked = _rows(to, organization, column, by, csv)
    if known:
        _require_same(known.rows, file, to=to, organization=organization, column=column, by=by, csv=csv)
    models = _load_models(metadata, app_dir) if metadata else None
    with connect(database_url) as connection:
        schema, notices = _read_schema(connection, models, metadata)
        proposed, why = _propose(connection, schema, known.rows if known else asked, known)
        chosen = known or proposed
        if known is None:
            _write(file, config.write(proposed, why))
        if graph or svg:
            _draw(chosen, schema, svg, mermaid=graph)
            return
        begun = record.exists(connection)  # from then on the plan is what it was begun with
        found = _Found(
            proposals=why,
            questions=[decision.table for decision in chosen.decisions if decision.tenant == "undecided"],
            differences=move.list_news(connection) if begun else _differences(known, proposed, why) if known else [],
            drift=drift.find(connection, chosen, schema),
            models=notices,
        )
        if known is None and not as_json:
            _print_proposals(proposed, why, file)
        if not found.questions and not found.differences:
            found.look_ahead(connection, chosen)
    if as_json:
        typer.echo(json.dumps({"plan": asdict(chosen), **found.told()}))
    else:
        found.print_rest(file, by_step=steps)
    raise typer.Exit(0 if found.is_ready else 1)


@app.command()
def apply(
    to: Annotated[
        str | None,
        typer.Option(
            metavar="expand|backfill|constrain|isolate|contract",
            help="Do all up to and with this phase. Default: constrain.",
        ),
    ] = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print a script for psql that does the same, of all phases; do nothing.")
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
    file: File = FILE,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Do the steps of the plan, and go on where an earlier run was stopped.

    Up to `constrain` an app that knows nothing of tenants goes on as it is. Before `isolate` deploy the one that sets a
    tenant in each transaction. What `contract` drops cannot be brought back.
    """
    from tenantry.adopt import config, move, script
    from tenantry.adopt.runner import Pace
    from tenantry.adopt.step import PHASES

    if after is not None and alembic is None:
        raise ConfigurationError("--after goes with --alembic.", hint="Name the folder of your revisions, too.")
    last, chosen = _phase(to or _DEFAULT), config.load(file)
    pace = Pace(lock_ms, batch_ms, rest, patience)
    with connect(database_url) as connection:
        if alembic:
            _write_revisions(move.preview(connection, chosen), file, alembic, after)
            return
        for line in move.list_notices(connection, chosen):
            typer.secho(line, fg="yellow", err=True)
        if sql:
            printed = last if to else PHASES[-1]
            typer.echo(
                script.write_apply(
                    connection, chosen, printed, last, pace, differing=differing, checksums=not no_checksums
                )
            )
            return
        with adopt_progress.watching(as_json=as_json) as watcher:
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
        entries = move.read_progress(connection)
    if not as_json:
        typer.echo(f"{adopt_progress.summary(watcher)}\n{_next(entries)}")


@app.command()
def status(as_json: Json = False, database_url: DatabaseUrl = None) -> None:
    """Say how far the move is. Exits with 1 where steps are left to do, or none has begun."""
    from tenantry.adopt import move, progress

    with connect(database_url) as connection:
        found = progress.read(connection)
        news, waiting = move.list_news(connection), move.list_waiting(connection)
    if as_json:
        typer.echo(json.dumps({**adopt_progress.told(found), "news": news, "waiting": waiting}))
    elif not found.entries:
        typer.echo("No move has begun here. Next: tenantry adopt plan")
    else:
        adopt_progress.print_progress(found)
    for sentence in () if as_json else (*news, *waiting):
        typer.secho(sentence, fg="yellow", err=True)
    raise typer.Exit(1 if found.next or not found.entries else 0)


@app.command()
def undo(
    back_to: Annotated[
        str,
        typer.Option("--before", metavar="expand|backfill|constrain|isolate", help="Undo this phase and all after it."),
    ] = "expand",
    sql: Annotated[bool, typer.Option("--sql", help="Print a script for psql that does the same; do nothing.")] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Undo the steps that were done, last first, until the database is as it was. Not after `contract` has begun."""
    from tenantry.adopt import move, script
    from tenantry.adopt.runner import Pace

    first = _phase(back_to)
    with connect(database_url) as connection:
        kept = move.list_kept(connection, first)
        if sql:
            typer.echo(script.write_undo(connection, first, Pace()))
        else:
            with adopt_progress.watching(as_json=as_json) as watcher:
                move.undo(connection, first, Pace(), watcher)
    for line in kept:
        typer.secho(line, fg="yellow", err=True)
    if not (sql or as_json):
        typer.echo("Undone.")


@app.command()
def verify(
    still: Annotated[
        bool, typer.Option("--still", help="The app writes nothing: any difference is a finding.")
    ] = False,
    file: File = FILE,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Compare rows and tenants with what they were and should be. Exits with 1 where something is wrong."""
    from tenantry.adopt import config, move

    chosen = config.load(file)
    with connect(database_url) as connection, adopt_progress.watching(as_json=as_json) as watcher:
        report = move.check(connection, chosen, still=still, told=watcher.read)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "clean": report.clean}))
    else:
        _print_report(report)
    raise typer.Exit(0 if report.clean else 1)


_DEFAULT: Phase = "constrain"  # an app that knows nothing of tenants goes on as it is
_NEXT = {
    "expand": "tenantry adopt apply --to backfill",
    "backfill": "tenantry adopt apply --to constrain",
    "constrain": "tenantry adopt verify; deploy the app that sets a tenant; tenantry adopt apply --to isolate",
    "isolate": "tenantry adopt verify; then, for good, tenantry adopt apply --to contract",
    "contract": "tenantry adopt verify; tenantry db check",
}


def _next(entries: Sequence[Entry]) -> str:
    from tenantry.adopt.record import reached

    done = reached(entries)
    return f"Done up to {done}. Next: {_NEXT[done]}" if done else "Next: tenantry adopt apply --sql"


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
    if to in ("column", "csv") and not given[to]:
        raise ConfigurationError(f"--to {to} takes --{to}.", hint="`tenantry adopt plan --help` says which.")
    if organization and not organization.startswith("org_"):
        raise ConfigurationError(f"--organization is Clerk's id of one, org_..., not {organization!r}.")
    if by not in ("", "domain"):
        raise ConfigurationError(f"--by is domain, or left out, not {by!r}.")
    for place in PLACES:
        if place == to:
            return Rows(to=place, organization=organization, column=column, by=by, csv=csv)
    raise ConfigurationError(f"Rows cannot go to {to!r}.", hint=f"They go to {', '.join(PLACES)}.")


def _require_same(rows: Rows, file: Path, **given: str | None) -> None:
    """A plan that is there is the person's to edit."""
    for name, value in given.items():
        if value and value != getattr(rows, name):
            raise ConfigurationError(
                f"{file} is there, and --{name} is for a new one.",
                hint="Edit [rows] in it, or name another file with --file.",
            )


def _load_models(name: str, folder: Path) -> Any:
    """What the models' module prints while it is imported is no part of the answer."""
    from tenantry.dev.loading import load

    with redirect_stdout(sys.stderr):
        return load(name, folder, what="metadata", example="--metadata app.models:Base")


def _read_schema(connection: psycopg.Connection[Any], models: Any, name: str) -> tuple[Schema, list[str]]:
    """The catalog, with what the models add to it; and where the two differ."""
    from tenantry.adopt import move

    schema = move.read_schema(connection)
    if models is None:
        return schema, []
    try:
        from tenantry.adopt.models import complete
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"'--metadata' needs the package '{error.name}'.", hint="Run: pip install 'tenantry[sqlalchemy]'"
        ) from None
    return complete(schema, models, name)


def _draw(chosen: Plan, schema: Schema, file: Path | None, *, mermaid: bool) -> None:
    from tenantry.adopt import graph
    from tenantry.adopt import svg as pictures

    if mermaid:
        typer.echo(graph.mermaid(chosen, schema), nl=False)
    if file is not None:
        _write(file, pictures.draw(chosen, schema))
        typer.echo(f"Wrote {file}.", err=mermaid)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written.", detail=str(error)) from None


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
    models: Sequence[str] = ()
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
            "models": list(self.models),
            "notices": list(self.notices),
            "problem": problem,
            "steps": steps,
        }

    def print_rest(self, file: Path, *, by_step: bool) -> None:
        """What there is to decide, else what is in the way, else what there is to do."""
        for line in [*self.models, *self.drift, *self.notices, *self.differences]:
            typer.echo(line)
        if self.questions:
            typer.echo(f"{len(self.questions)} to decide. Next: edit {file}.")
        if self.problem:
            raise self.problem
        if self.is_ready:
            if by_step:
                adopt_progress.print_steps(self.steps)
            adopt_progress.print_phases([entry.step for entry in self.steps])
            typer.echo(_next(self.steps))


# --- printing ---------------------------------------------------------------------------------------------------------


def _print_proposals(proposed: Plan, why: dict[str, Proposal], file: Path) -> None:
    for decision in proposed.decisions:
        proposal = why[decision.table]
        how = " ".join([decision.tenant, ", ".join(decision.column) or decision.mode]).strip()
        how += f" -> {decision.refers_to}" if decision.refers_to else ""
        typer.echo(f"{decision.table}  {how}\n  {proposal.confidence}: {proposal.reason}")
        for choice in proposal.choices:
            target = f" -> {choice.refers_to}" if choice.refers_to else ""
            typer.echo(f"  or {choice.tenant} {', '.join(choice.column) or choice.mode}{target}")
    typer.echo(f"Wrote {file}.")


def _differences(known: Plan, proposed: Plan, why: dict[str, Proposal]) -> list[str]:
    """What is in one and not in the other; a decision of a person is no difference."""
    from tenantry.adopt import config

    there, here = {d.table for d in known.decisions}, {d.table for d in proposed.decisions}
    lines = [f"{table} is in the plan, and not (any more) open in the database." for table in sorted(there - here)]
    for decision in proposed.decisions:
        if decision.table not in there:
            lines.append(f"{decision.table} is not in the plan. Add:\n{config.table(decision, why[decision.table])}")
    return lines


def _write_revisions(entries: Sequence[Entry], file: Path, folder: Path, after: str | None) -> None:
    from tenantry.adopt import revisions, script
    from tenantry.adopt.step import PHASES

    steps = [entry.step for entry in entries]
    scripts = {phase: "\n\n".join(script.outline(step) for step in steps if step.phase == phase) for phase in PHASES}
    for path in revisions.write(folder, file, scripts, after):
        typer.echo(f"Wrote {path}.")
    typer.echo("Next: alembic upgrade tenantry_adopt_3_constrain")


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
