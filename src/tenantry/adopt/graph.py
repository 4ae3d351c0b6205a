"""The ownership of tables as a graph, and that in Mermaid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tenantry.adopt.catalog import Schema
from tenantry.adopt.plan import Decision, Plan, reference_of

TENANT = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A table, and the one above it that its rows get their tenant from: `TENANT` where they have it at first hand,
    None where they get none. `how` is the column they get it by; of the users' table, what says where a user's rows go.
    """

    table: str
    tenant: str
    above: str | None = None
    how: str = ""
    places: bool = False  # it is the users' table: all tenants see it, and it says whose the rows of others are
    enforced: bool = True
    rows: int = 0


def nodes(plan: Plan, schema: Schema) -> list[Node]:
    return [_node(plan, schema, decision) for decision in plan.decisions]


def _node(plan: Plan, schema: Schema, decision: Decision) -> Node:
    name, table = decision.table, schema.tables.get(decision.table)
    rows = table.rows if table else 0
    if plan.users and plan.users.table == name and not decision.is_owned:
        how = plan.rows.column if plan.rows.to == "column" else plan.rows.to
        return Node(name, decision.tenant, TENANT, how, places=True, rows=rows)
    if not decision.is_owned:
        return Node(name, decision.tenant, rows=rows)
    reference = reference_of(schema, decision) if table else None
    above = TENANT
    if reference and decision.tenant == "reference" and plan.of(reference.target):
        above = reference.target
    source = plan.source(schema, decision) if table and decision.tenant == "owner" else None
    if source and source.table != name and plan.of(source.table):
        above = source.table
    enforced = reference is None or reference.enforced
    return Node(name, decision.tenant, above, ", ".join(decision.column), enforced=enforced, rows=rows)


def mermaid(plan: Plan, schema: Schema) -> str:
    """Arrows lead from a table to whom its rows get their tenant from."""
    found = nodes(plan, schema)
    names = {TENANT: "tenant", **{node.table: f"t{n}" for n, node in enumerate(found)}}
    lines = ["graph LR", '  tenant(("tenant"))']
    for node in found:
        kind = f":::{node.tenant}" if node.tenant in _CLASSES else ""
        lines.append(f'  {names[node.table]}["{_escape(node.table)}"]{kind}')
        lines += _arrow(node, names)
    return "\n".join([*lines, *(f"  classDef {name} {style}" for name, style in _CLASSES.items())]) + "\n"


def _arrow(node: Node, names: dict[str, str]) -> Iterator[str]:
    if node.above is None:
        return
    line, head = ("-.", ".->") if node.places or not node.enforced else ("--", "-->")
    arrow = f'{line} "{_escape(node.how)}" {head}' if node.how else "-->"
    yield f"  {names[node.table]} {arrow} {names[node.above]}"


def _escape(text: str) -> str:
    return text.replace('"', "#quot;")


_CLASSES = {"shared": "fill:#eee,stroke:#999", "undecided": "fill:#fdd,stroke:#c00,stroke-dasharray:4"}
