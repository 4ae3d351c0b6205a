"""`tenantry init`: adds Tenantry to a Next.js or FastAPI project, as files that the project owns."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenantry.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from tenantry.roles import RoleMap
    from tenantry.scaffold.nextjs_suite import Choice
    from tenantry.scaffold.plan import Plan
    from tenantry.scaffold.project import NextProject

app = typer.Typer(help="Add Tenantry to a project, as files that the project owns.", no_args_is_help=True)

Directory = Annotated[
    Path,
    typer.Option("--dir", metavar="PATH", exists=True, file_okay=False, resolve_path=True, help="The app's folder."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Write nothing. Exit with 1 where a file is not as it would be written.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing. Show all that would be written.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")]


class Orm(StrEnum):
    """What the app reaches PostgreSQL with."""

    PG = "pg"
    DRIZZLE = "drizzle"
    PRISMA = "prisma"


class By(StrEnum):
    """What a path names an organization by."""

    ID = "id"
    SLUG = "slug"


@app.command()
def nextjs(
    directory: Directory = Path(),
    api: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A FastAPI there owns the data: no database code is written here."),
    ] = None,
    orm: Annotated[Orm | None, typer.Option(help="Default: what package.json names, else pg.")] = None,
    by: Annotated[
        By | None, typer.Option(help="What a path under /orgs names an organization by. Default: id.")
    ] = None,
    roles: Annotated[
        Path | None,
        typer.Option(metavar="PATH", resolve_path=True, help="Default: the nearest tenantry.toml, there or above."),
    ] = None,
    check: Check = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Add organizations, webhooks, isolation and the switcher to an app with the App Router.

    Shows what it would do, and asks. What was there before, and what you edited, is never overwritten. Without options
    it does as it did the last time.
    """
    from tenantry.scaffold import nextjs_steps, nextjs_suite
    from tenantry.scaffold.nextjs_choice import choose
    from tenantry.scaffold.plan import make_plan, read_record, remember
    from tenantry.scaffold.project import read_next_project

    project = read_next_project(directory)
    record = project.source / nextjs_suite.RECORD
    earlier = read_record(record)
    choice = choose(project, earlier.options, orm=orm, by=by, api=api)
    roles_file = _remembered_roles(project.root, roles, earlier.options.get("roles"))
    texts = nextjs_suite.render_suite(
        choice, _load_roles(project.root, roles_file), prisma_client=project.prisma_client
    )
    plan = make_plan(project.root, nextjs_suite.plan_files(project, choice, texts), earlier)
    options = choice.options() | ({"roles": roles_file} if roles_file else {})
    plan = remember(plan, earlier, options, record.relative_to(project.root).as_posix())
    run = _Run(check=check, dry_run=dry_run, yes=yes)
    if run.carry_out(plan):
        _finish_nextjs(run.console, project, choice, plan, *nextjs_steps.needed_packages(texts))


@dataclass(frozen=True)
class _Run:
    """How a plan is carried out: what was asked for, and where it is shown."""

    check: bool
    dry_run: bool
    yes: bool

    @property
    def console(self) -> Console:
        from rich.console import Console

        return Console(highlight=False, soft_wrap=True)

    def carry_out(self, plan: Plan) -> bool:
        """Shows the plan, asks and writes. Whether the plan's files are in place now; `--check` exits."""
        from tenantry.scaffold import preview
        from tenantry.scaffold.plan import write
        from tenantry.scaffold.worktree import ignored, warn

        console = self.console
        if self.check:
            preview.show(console, plan, diffs_of=("change", "keep"))
            raise typer.Exit(1 if plan.differences else 0)
        preview.show(console, plan, diffs_of=("create", "change", "keep") if self.dry_run else ("change",))
        if not plan.to_write:
            console.print("Nothing to write.")
            return not self.dry_run
        if warning := warn(plan.root):
            console.print(f"\n{warning}", style="yellow")
        if self.dry_run or not (self.yes or _ask(len(plan.to_write))):
            console.print("\nNothing was written.")
            return False
        write(plan)
        console.print(f"\n{len(plan.to_write)} files written.", style="green")
        if left_out := ignored(plan.root, (step.path for step in plan.to_write)):
            console.print(f"Git ignores {', '.join(left_out)}: see your .gitignore.", style="yellow")
        return True


def _ask(count: int) -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "There is no terminal to ask on, so nothing was written.", hint="Say --yes, or --dry-run to see it all."
        )
    return typer.confirm(f"\nWrite {count} files?", default=True)


def _remembered_roles(root: Path, given: Path | None, earlier: str | None) -> str | None:
    """The roles file as a record remembers it: by its path from the project, and only where it was named."""
    return Path(os.path.relpath(given, root)).as_posix() if given is not None else earlier


def _load_roles(root: Path, named: str | None) -> RoleMap:
    """Of the file named, else of the nearest tenantry.toml there or above, else the default map."""
    from tenantry.roles import load

    if named is not None:
        return load(root / named)
    candidates = (folder / "tenantry.toml" for folder in (root, *root.parents))
    return load(next((path for path in candidates if path.is_file()), None))


def _finish_nextjs(
    console: Console, project: NextProject, choice: Choice, plan: Plan, to_run: list[str], to_test: list[str]
) -> None:
    """Says what is left to do, and type-checks where all is installed. Exits with 1 for a type error of ours."""
    from tenantry.scaffold import nextjs_steps, typescript

    missing = [name for name in (*to_run, *to_test) if name not in project.packages]
    _print_steps(console, nextjs_steps.next_steps(project, choice, to_run, to_test))
    if missing:
        console.print("\nNot type-checked: install first, then run this again.")
        return
    console.print("\nType-checking with the project's own tsc ...", style="dim")
    verdict = typescript.check(project.root, {step.path for step in plan.steps})
    if verdict is None:
        console.print("Not type-checked: there is no tsc in node_modules. Later: npx tsc --noEmit")
        return
    for error in verdict.errors:
        console.print(error, markup=False)
    if verdict.others:
        console.print(f"{verdict.others} type errors are in other files of yours.")
    console.print(f"{len(verdict.errors)} type errors in what init wrote.")
    raise typer.Exit(1 if verdict.errors else 0)


def _print_steps(console: Console, steps: Iterable[tuple[str, list[str]]]) -> None:
    for title, lines in steps:
        console.print(f"\n{title}")
        for line in lines:
            console.print(f"  {line}", markup=False)


@app.command()
def fastapi(
    directory: Directory = Path(),
    tables: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Tables of tenants: they get a migration. Else those of an earlier run.",
        ),
    ] = "",
    app_name: Annotated[
        str | None, typer.Option("--app", metavar="MODULE:NAME", help="Where there are several: which app.")
    ] = None,
    check: Check = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Wire an existing FastAPI project: the app, its sessions, an Alembic migration, and a test.

    Lines are inserted where the syntax tree shows that it is safe, and shown for you to merge where it does not.
    """
    from tenantry.scaffold import environment, fastapi_wiring
    from tenantry.scaffold.fastapi_project import read_fastapi_project
    from tenantry.scaffold.plan import make_plan

    project = read_fastapi_project(directory, app_name)
    chosen = fastapi_wiring.read_tables(tables) or fastapi_wiring.earlier_tables(project)
    run = _Run(check=check, dry_run=dry_run, yes=yes)
    if not run.carry_out(make_plan(project.root, fastapi_wiring.plan_files(project, chosen))):
        return
    lines = environment.fastapi_lines()
    unset = environment.name_unset([project.root / ".env"], lines)
    steps = [
        ("Set where the app runs:", [f"{name}={example}   # {what}" for name, example, what in lines if name in unset])
    ]
    if not chosen and (known := fastapi_wiring.known_tables(project)):
        steps.append(("Choose the tables whose rows belong to a tenant, of these:", [f"--tables {','.join(known)}"]))
    if project.migrations is None and chosen:
        isolate = [f"select tenantry.isolate_table_v1('{table}');" for table in chosen]
        steps.append(("There is no Alembic here. Run as the tables' owner:", isolate))
    steps.append(
        (
            "Then:",
            [
                "pip install 'tenantry[fastapi,sqlalchemy]'",
                "tenantry db migrate --app-role app",
                *(["alembic upgrade head"] if project.migrations else []),
                "pip install pytest 'tenantry[dev]' && pytest",
            ],
        )
    )
    _print_steps(run.console, steps)
