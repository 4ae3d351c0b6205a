"""The ownership of tables as a picture, in Mermaid."""

from __future__ import annotations

from tenantry.adopt.catalog import Schema
from tenantry.adopt.plan import Plan, parent_of


def mermaid(plan: Plan, schema: Schema) -> str:
    """Arrows lead from a table to whom its rows get their tenant from."""
    tenant, names = "tenant", {decision.table: f"t{n}" for n, decision in enumerate(plan.decisions)}
    lines = ["graph LR", f'  {tenant}(("tenant"))']
    for decision in plan.decisions:
        node, label = names[decision.table], decision.table.replace('"', "#quot;")
        lines.append(f'  {node}["{label}"]' + (f":::{decision.tenant}" if decision.tenant in _CLASSES else ""))
        column = ", ".join(decision.column).replace('"', "#quot;")
        parent = parent_of(schema, decision)
        source = (
            plan.source(schema, decision) if decision.tenant == "owner" and decision.table in schema.tables else None
        )
        if parent in names:
            lines.append(f'  {node} -- "{column}" --> {names[parent]}')
        elif source and source.table in names and source.table != decision.table:
            lines.append(f'  {node} -- "{column}" --> {names[source.table]}')
        elif decision.tenant in ("owner", "column", "organization"):
            lines.append(f'  {node} -- "{column}" --> {tenant}' if column else f"  {node} --> {tenant}")
    if plan.users and plan.users.table in names:
        lines.append(f'  {names[plan.users.table]} -. "{plan.rows.to}" .-> {tenant}')
    return "\n".join([*lines, *(f"  classDef {name} {style}" for name, style in _CLASSES.items())]) + "\n"


_CLASSES = {"shared": "fill:#eee,stroke:#999", "undecided": "fill:#fdd,stroke:#c00,stroke-dasharray:4"}
