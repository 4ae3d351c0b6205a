"""A move as Alembic revisions, one for each phase: what they show is its SQL, what they run is `tenantry adopt apply`.

A migration in one transaction could not do it: batches, concurrent builds and patient locks need many. So a revision
ends Alembic's transaction, runs its phase on a connection of its own, and leaves the same record as the command does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenantry.adopt import config, move
from tenantry.adopt.record import Entry
from tenantry.adopt.runner import Pace
from tenantry.adopt.step import PHASES, Phase
from tenantry.database import connect
from tenantry.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg

_REVISION = '''\
"""Moves tables behind tenant isolation, {number} of {count}: {phase}.{note}"""

from pathlib import Path

from alembic import op

from tenantry.adopt import revisions

revision = {revision!r}
down_revision = {after!r}

PLAN = Path(__file__).with_name({plan!r})


def upgrade() -> None:
    revisions.upgrade(op, {phase!r}, PLAN)


def downgrade() -> None:
    revisions.downgrade(op, {phase!r})


# What it runs, in many small transactions, as planned for the database that it was written with:
#
{script}
'''

_NOTES: Mapping[Phase, str] = {
    "isolate": "\n\nBefore it runs, deploy the app that sets a tenant in each transaction.\n",
    "contract": "\n\nThis cannot be undone.\n",
}


def write(folder: Path, plan: Path, scripts: Mapping[Phase, str], after: str | None = None) -> list[Path]:
    """Writes the revisions of a plan's phases, and the plan beside them; `after` is the revision that they follow.

    Raises ConfigurationError where the folder is none, or has such revisions.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder.", hint="Name the one that your revisions are in.")
    paths = [folder / f"{_name(phase)}.py" for phase in PHASES]
    kept = folder / "tenantry_adopt.toml"
    if there := [path for path in (*paths, kept) if path.exists()]:
        raise ConfigurationError(f"{there[0]} is there already.", hint="A revision that ran has to stay what it is.")
    kept.write_text(plan.read_text(encoding="utf-8"), encoding="utf-8")
    for number, (phase, path) in enumerate(zip(PHASES, paths, strict=True), 1):
        lines = scripts.get(phase, "").splitlines()
        text = _REVISION.format(
            number=number,
            count=len(PHASES),
            phase=phase,
            note=_NOTES.get(phase, ""),
            revision=_name(phase),
            after=after,
            plan=kept.name,
            script="\n".join(f"# {line}".rstrip() for line in lines),
        )
        path.write_text(text, encoding="utf-8")
        after = _name(phase)
    return paths


def upgrade(op: Any, phase: Phase, plan: Path) -> None:
    """Goes on with the move up to and with a phase; `op` is Alembic's. Raises AdoptionRefused, as the command does."""
    with _outside(op) as connection:
        move.apply(connection, config.load(plan), phase, Pace(), _Quiet())


def downgrade(op: Any, phase: Phase) -> None:
    """Undoes a phase. Raises AdoptionRefused where contract has begun."""
    with _outside(op) as connection:
        move.undo(connection, phase, Pace(), _Quiet())


def _name(phase: Phase) -> str:
    return f"tenantry_adopt_{1 + PHASES.index(phase)}_{phase}"


@contextmanager
def _outside(op: Any) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the database that is migrated, while Alembic's own has no transaction open."""
    context = op.get_context()
    if context.as_sql:
        raise ConfigurationError(
            "A move needs its database: it cannot be printed by `alembic upgrade --sql`.",
            hint="`tenantry adopt apply --sql` prints it.",
        )
    url = op.get_bind().engine.url.render_as_string(hide_password=False)
    with context.autocommit_block(), connect(url) as connection:
        yield connection


class _Quiet:
    """Alembic says which revision runs; the record in the database, which step."""

    def begin(self, entry: Entry, total: int, *, undo: bool) -> None: ...
    def progress(self, entry: Entry, done: int, total: int) -> None: ...
    def end(self, entry: Entry, *, undo: bool) -> None: ...
