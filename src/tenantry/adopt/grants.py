"""Who may use the app's tables: tenants before there is isolation, and everybody as it was, on the way back."""

from __future__ import annotations

from collections.abc import Iterable

from tenantry.adopt.catalog import Grant, Schema, Table, View
from tenantry.adopt.names import listing, literal
from tenantry.adopt.plan import Decision
from tenantry.adopt.step import Step

_RIGHTS = {"write": "select, insert, update, delete", "read": "select", "none": ""}


def views(schema: Schema, tables: Iterable[Table]) -> list[View]:
    owners = {table.name: table.owner for table in tables}
    return [view for view in schema.views if any(owners.get(name) == view.owner for name in view.reads)]


def opened(table: Table, mode: str) -> list[str]:
    rights = _RIGHTS[mode]
    lines = [f"grant select on {table.name} to tenantry_bypass"]
    if rights:
        lines = [f"grant {rights} on {table.name} to tenantry_tenant, tenantry_bypass"]
    if mode == "write":
        lines += [
            f"grant usage on sequence {sequence} to tenantry_tenant, tenantry_bypass" for sequence, _ in table.sequences
        ]
    return lines


def give_back(kind: str, name: str, before: Iterable[Grant]) -> list[str]:
    """Takes from tenants and the bypass what they were granted, but for what they had before."""
    lines = [f"revoke all on {kind} {name} from tenantry_tenant, tenantry_bypass"]
    return lines + _regrant(kind, name, [g for g in before if g.grantee in ("tenantry_tenant", "tenantry_bypass")])


def restore(table: Table) -> list[str]:
    """Everybody's rights on a table and its sequences, as they were."""
    lines = []
    for name, held in ((table.name, table.grants), *table.parts):
        lines += [f"revoke all on table {name} from tenantry_tenant, tenantry_bypass", *_regrant("table", name, held)]
    for sequence, held in table.sequences:
        lines.append(f"revoke all on sequence {sequence} from tenantry_tenant, tenantry_bypass")
        lines += _regrant("sequence", sequence, held)
    return lines


def _regrant(kind: str, name: str, held: Iterable[Grant]) -> list[str]:
    rights: dict[tuple[str, bool], list[str]] = {}
    for grant in held:
        rights.setdefault((grant.grantee, grant.grantable), []).append(grant.privilege)
    return [
        f"grant {listing(privileges)} on {kind} {name} to {grantee}{' with grant option' if grantable else ''}"
        for (grantee, grantable), privileges in sorted(rights.items())
    ]


def share(schema: Schema, decision: Decision) -> Step:
    table = schema.tables[decision.table]
    name = literal(table.name)
    undo = [f"select tenantry.register_isolation({name}, null)", *restore(table), *opened(table, decision.mode)]
    sql = (f"select tenantry.share_table_v1({name}, {literal(decision.mode)})",)
    return Step("isolate", f"share {table.name}", table.name, "together", sql, tuple(undo), "grants")
