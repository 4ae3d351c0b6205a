"""Proposes whose the rows of each table are, with the reason; what is not clear becomes a question, not a guess.

A table belongs to whom its own column names, an organization before a user; else to whom the one foreign key leads
that ends in a table which belongs to somebody. Where two ways lead to an owner, a person has to choose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tenantry.adopt import handmade
from tenantry.adopt.catalog import Reference, Schema, Table
from tenantry.adopt.names import plain, split
from tenantry.adopt.plan import Decision, Plan, Rows, Source

_USERS = re.compile(r"(app_|auth_)?(users?|people|persons?|profiles?|accounts?|members?)")
_ORGANIZATIONS = re.compile(
    r"(app_)?(org(anization|anisation)?s?|tenants?|workspaces?|companies|company|teams?|accounts?)"
)
_CLERK_COLUMN = re.compile(r"clerk(_?(user|org|organization))?_?id|external_id")
_LOOKUP_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Proposal:
    """`confidence`: certain, likely or question. `choices` are the decisions that a question is between."""

    decision: Decision
    reason: str
    confidence: str
    choices: tuple[Decision, ...] = ()


def propose(
    schema: Schema, rows: Rows, users: Source | None = None, organizations: Source | None = None
) -> tuple[Plan, dict[str, Proposal]]:
    """A plan and, by table, why. Sources that are not given are looked for."""
    organizations = organizations or find_organizations(schema)
    users = users or find_users(schema, organizations)
    open_ = {name: table for name, table in schema.tables.items() if not table.isolation}
    found: dict[str, Proposal] = {}
    for name, table in open_.items():
        if proposal := _by_itself(schema, table, rows, users, organizations):
            found[name] = proposal
    while more := _by_reference(open_, found, users):
        found |= more
    for name, table in open_.items():
        if name not in found:
            found[name] = _without_owner(open_, table)
    decisions = tuple(found[name].decision for name in sorted(found))
    return Plan(rows, decisions, users, organizations), found


def find_users(schema: Schema, organizations: Source | None) -> Source | None:
    """The table named like one of users that most tables refer to; else, where columns hold Clerk's user ids, those."""
    taken = organizations.table if organizations else ""
    source = _find_source(schema, _USERS, "user", taken)
    if source is None and any(c.holds == "user" for table in schema.tables.values() for c in table.columns):
        return Source()
    return source


def find_organizations(schema: Schema) -> Source | None:
    """The app's own table of organizations, if it has one that holds Clerk's ids of them."""
    source = _find_source(schema, _ORGANIZATIONS, "organization", "")
    if source is None or not source.clerk_id:
        return None
    return replace(source, columns=handmade.propose_columns(schema.tables[source.table]))


def _find_source(schema: Schema, named: re.Pattern[str], holds: str, taken: str) -> Source | None:
    candidates = []
    for table in schema.tables.values():
        is_named = named.fullmatch(plain(split(table.name)[1]).lower()) is not None
        shown = _showing(table, holds)
        if len(table.primary_key) != 1 or table.name == taken or not (is_named or shown):
            continue
        clerk_id = shown or _named_for_clerk(table, holds)
        used = len(schema.referring[table.name])
        candidates.append(((bool(clerk_id), used, is_named), table, clerk_id))
    if not candidates:
        return None
    _, table, clerk_id = max(candidates, key=lambda each: (each[0], each[1].name))
    return Source(table.name, table.primary_key[0], clerk_id)


def _showing(table: Table, holds: str) -> str:
    """The column that holds Clerk's ids, each once."""
    keys = {index.columns for index in table.indexes if index.unique and not index.predicate}
    return next((c.name for c in table.columns if c.holds == holds and (c.name,) in keys), "")


def _named_for_clerk(table: Table, holds: str) -> str:
    """The column that says by its name that it does; an empty table shows nothing."""
    other = "org" if holds == "user" else "user"
    for column in table.columns:
        name = plain(column.name).lower()
        if _CLERK_COLUMN.fullmatch(name) and other not in name and not column.holds and column.type != "uuid":
            return column.name
    return ""


# --- one table --------------------------------------------------------------------------------------------------------


def _by_itself(
    schema: Schema, table: Table, rows: Rows, users: Source | None, organizations: Source | None
) -> Proposal | None:
    """What a table's own columns say."""
    name = table.name
    if table.refusal:
        return _question(
            table, f"its rows can have no tenant, because {table.refusal}", Decision(name, "shared", mode="none")
        )
    if organizations and name == organizations.table:
        column = (organizations.key,)
        holds = table.column(organizations.key)
        if organizations.clerk_id == organizations.key or (holds and holds.holds == "organization"):
            return Proposal(Decision(name, "column", column), "each row is one organization", "certain")
        return Proposal(Decision(name, "owner", column), "each row is one organization", "certain")
    if users and name == users.table:
        return Proposal(
            Decision(name, "shared", mode="write"), "a user may belong to several tenants; all tenants see it", "likely"
        )
    columns = [c.name for c in table.columns if c.holds == "organization"]
    ways = [Decision(name, "column", (column,)) for column in columns if not table.reference((column,))]
    if organizations:
        ways += [_way(table, r, organizations) for r in table.references if r.target == organizations.table]
    if ways:
        return _choose(table, ways, "names its organization")
    if not table.references and _is_looked_up(schema, table):
        return Proposal(Decision(name, "shared", mode="read"), "few rows that others refer to, and of nobody", "likely")
    if rows.to == "organization" and table.references:
        return Proposal(Decision(name, "organization"), "all rows so far are one organization's", "likely")
    if rows.to == "organization":
        return _question(table, "nothing says whose its rows are", Decision(name, "organization"), *_shared(table))
    ways = []
    if users and users.table:
        ways = [Decision(name, "owner", r.columns) for r in table.references if r.target == users.table]
    elif users:
        ways = [Decision(name, "owner", (c.name,)) for c in table.columns if c.holds == "user"]
    if not ways or _parents(table, users):
        return None  # with a foreign key elsewhere too it depends on where that leads
    return _choose(table, ways, "names its user")


def _way(table: Table, reference: Reference, organizations: Source) -> Decision:
    by_clerk_id = organizations.clerk_id == reference.target_columns[0] and len(reference.columns) == 1
    return Decision(table.name, "column" if by_clerk_id else "owner", reference.columns)


def _parents(table: Table, users: Source | None) -> list[Reference]:
    return [r for r in table.references if r.target != table.name and not (users and r.target == users.table)]


def _choose(table: Table, ways: list[Decision], reason: str) -> Proposal:
    if len(ways) > 1:
        named = " or ".join(", ".join(way.column) for way in ways)
        return _question(table, f"several columns could say whose its rows are: {named}", *ways)
    column = table.column(ways[0].column[0])
    optional = column is not None and not column.not_null
    told = f"{', '.join(ways[0].column)} {reason}" + (", where it is not null" if optional else "")
    return Proposal(ways[0], told, "likely" if optional else "certain")


def _question(table: Table, reason: str, *choices: Decision) -> Proposal:
    return Proposal(Decision(table.name, "undecided"), reason, "question", choices)


def _is_looked_up(schema: Schema, table: Table) -> bool:
    """Whether a table is a short list that others refer to, such as countries; it names no user."""
    return bool(schema.referring[table.name]) and table.rows < _LOOKUP_ROWS and not any(c.holds for c in table.columns)


def _shared(table: Table) -> list[Decision]:
    return [Decision(table.name, "shared", mode="read"), Decision(table.name, "shared", mode="none")]


# --- through others ---------------------------------------------------------------------------------------------------


def _by_reference(
    tables: Mapping[str, Table], found: Mapping[str, Proposal], users: Source | None
) -> dict[str, Proposal]:
    """Proposals for tables all of whose foreign keys lead to tables that are settled."""
    more = {}
    for name, table in tables.items():
        references = [r for r in table.references if r.target != name]
        targets = {r.target for r in references}
        if name in found or not targets or not targets <= found.keys():
            continue
        ways = [way for r in references if (way := _lead(found[r.target].decision, r, name, users))]
        ways.sort(key=lambda way: way.tenant == "owner")
        undecided = sorted(target for target in targets if found[target].decision.tenant == "undecided")
        if undecided:
            more[name] = _question(table, f"it refers to {', '.join(undecided)}, undecided itself", *ways)
        elif ways:
            more[name] = _choose(table, ways, "leads to its owner")
    return more


def _lead(target: Decision, reference: Reference, name: str, users: Source | None) -> Decision | None:
    if users and target.table == users.table:
        return Decision(name, "owner", reference.columns)
    return None if target.tenant == "shared" else Decision(name, "reference", reference.columns)


# --- of nobody --------------------------------------------------------------------------------------------------------


def _without_owner(tables: Mapping[str, Table], table: Table) -> Proposal:
    if polymorphic := _polymorphic(table):
        return _question(table, f"{polymorphic} refers to one of several tables, by name", *_shared(table))
    ways = [Decision(table.name, "reference", r.columns) for r in table.references
            if r.target != table.name and not tables[r.target].refusal] if table.references else []  # fmt: skip
    reason = "its foreign keys lead in a circle, or to nobody" if ways else "nothing says whose its rows are"
    return _question(table, reason, *ways, *_shared(table))


def _polymorphic(table: Table) -> str:
    names = {plain(c.name) for c in table.columns}
    return next(
        (f"{name[:-5]}_id" for name in sorted(names) if name.endswith("_type") and f"{name[:-5]}_id" in names), ""
    )
