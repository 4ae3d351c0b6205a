"""Partitions that come or go while a move is under way: what came late is isolated too, what was detached is let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tenantry.adopt import answers, ddl, identity, runner
from tenantry.adopt.identity import Identity
from tenantry.adopt.record import Entry
from tenantry.adopt.runner import Pace
from tenantry.adopt.step import Step

if TYPE_CHECKING:
    import psycopg


def isolate_late(connection: psycopg.Connection[Any], entries: Sequence[Entry], pace: Pace) -> None:
    """Isolates once more what has partitions that came after its isolation."""
    for entry in entries:
        step = entry.step
        if entry.state == "done" and step.name == f"isolate {step.table}" and _has_late(connection, step.table):
            runner.briefly(connection, step, pace)


def _has_late(connection: psycopg.Connection[Any], table: str) -> bool:
    return bool(answers.value(connection, _LATE, {"table": table}))


_LATE = """
select to_regclass(%(table)s) is not null and exists (
  select from unnest(tenantry.partitions_of(to_regclass(%(table)s))) as part
  where not exists (select from tenantry.table_isolation as i where i.relation = part))"""


def let_go(connection: psycopg.Connection[Any], tables: Mapping[str, Identity], pace: Pace) -> None:
    """Takes from detached partitions what undoing their tables' steps does not reach any more."""
    detached = identity.look(connection, tables).detached
    for table in tables.values():
        for part in table.parts:
            if part in detached and table.tenant:
                runner.briefly(connection, _let_go(part, table), pace)


def _let_go(part: str, table: Identity) -> Step:
    sql = [ddl.drop_isolation(part)]
    if table.tenant not in table.columns.values():
        sql.append(f"alter table {part} drop column if exists {table.tenant}")
    return Step("expand", f"let go of {part}", part, "together", tuple(sql), (), "ACCESS EXCLUSIVE", (part,))
