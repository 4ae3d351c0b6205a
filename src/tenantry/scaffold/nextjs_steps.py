"""What is left to do after `tenantry init nextjs` has written: packages, variables, the schema, what to beware of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from tenantry.scaffold import environment
from tenantry.scaffold.nextjs_suite import Choice, is_test
from tenantry.scaffold.project import NEWEST, NextProject

_THERE_ANYWAY = frozenset({"next", "react", "react-dom", "@clerk/nextjs"})
_HTTP_DRIVERS = frozenset({"@neondatabase/serverless", "@vercel/postgres", "@planetscale/database"})
_TYPES = {"pg": "@types/pg"}


def needed_packages(texts: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The npm packages that the suite imports and Next.js does not bring: to run, and to check and test it."""
    to_run = _union(text for path, text in texts.items() if not is_test(path)) - _THERE_ANYWAY
    to_test = _union(texts.values()) - _THERE_ANYWAY - to_run
    if "@prisma/adapter-pg" in to_run:
        to_run |= {"@prisma/client"}  # which the generated client imports
    return sorted(to_run), sorted(to_test | {_TYPES[name] for name in to_run | to_test if name in _TYPES})


def next_steps(
    project: NextProject, choice: Choice, to_run: list[str], to_test: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """What is left for the user to do: a title, and its lines. `.env.local` is read for names, and never written."""
    install = [
        project.install_command(missing, dev=dev)
        for names, dev in ((to_run, False), (to_test, True))
        if (missing := [name for name in names if name not in project.packages])
    ]
    if install:
        yield "Install what it imports:", install
    if not project.is_strict:
        yield (
            "What is written is strict TypeScript and may not compile otherwise. In tsconfig.json:",
            ['"strict": true'],
        )
    lines = environment.nextjs_lines(choice.api)
    unset = environment.name_unset([project.root / ".env.local", project.root / ".env"], lines)
    if unset:
        yield "Set in .env.local:", [f"{name}={example}   # {what}" for name, example, what in lines if name in unset]
    if choice.api is None:
        yield (
            "Bring the schema to the database, and isolate your tables:",
            [
                "tenantry db migrate --app-role app      # or clerk-multitenant/db-sync.sql with your own tool",
                "select tenantry.isolate_table_v1('documents');",
            ],
        )
    newer = [f"{name} {found}" for name, found in _majors(project).items() if found > NEWEST[name]]
    if newer:
        yield "Newer than what this release was tried with:", newer
    if project.edge_files and choice.api is None:
        edge = ", ".join(path.relative_to(project.root).as_posix() for path in project.edge_files)
        yield "These say `edge`, where PostgreSQL cannot be reached: keep withTenant out of them:", [edge]
    if choice.api is None and (http := sorted(_HTTP_DRIVERS & project.packages)):
        yield "These send each query by itself, so no tenant holds for them: use the `db` of withTenant:", http


def _majors(project: NextProject) -> dict[str, int]:
    return {"next": project.next, "@clerk/nextjs": project.clerk}


def _imported_packages(text: str) -> frozenset[str]:
    return frozenset(re.findall(r'\bfrom "((?:@[\w.-]+/)?[\w.-]+)(?:/[\w./-]+)?";', text)) - {".", ".."}


def _union(texts: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*(_imported_packages(text) for text in texts))
