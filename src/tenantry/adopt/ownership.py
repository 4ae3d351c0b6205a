"""Proposes whose the rows of each table are, with the reason; what is not clear becomes a question, not a guess.

A table belongs to whom its own column names, an organization before a user; else to whom the one foreign key leads
that ends in a table which belongs to somebody. Where two ways lead to an owner, a person has to choose. A reference
that only the models declare counts as a foreign key; one that only a column's name tells of is no more than a choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tenantry.adopt.catalog import Reference, Schema, Table
from tenantry.adopt.names import format_target, plain, split
from tenantry.adopt.plan import Decision, Kind, Plan, Rows, Source
from tenantry.adopt.references import polymorphic
from tenantry.adopt.suggestions import suggest, suggest_columns

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
            found[name] = _doubt(schema, table, proposal, users, organizations)
    while more := _by_reference(open_, found, users):
        found |= {name: _doubt(schema, open_[name], each, users, organizations) for name, each in more.items()}
    for name, table in open_.items():
        if name not in found:
            found[name] = _without_owner(schema, open_, table, users, organizations)
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
    return replace(source, columns=suggest_columns(schema.tables[source.table]))


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
        return Proposal(_of_organizations(table, organizations), "each row is one organization", "certain")
    if users and name == users.table:
        return Proposal(
            Decision(name, "shared", mode="write"), "a user may belong to several tenants; all tenants see it", "likely"
        )
    columns = [c.name for c in table.columns if c.holds == "organization"]
    ways = [Decision(name, "column", (column,)) for column in columns if not table.reference((column,))]
    if organizations:
        ways += [_way(schema, table, r, organizations) for r in table.references if r.target == organizations.table]
    if ways:
        return _choose(table, ways, "names its organization")
    if not table.references and _is_looked_up(schema, table, users):
        return Proposal(Decision(name, "shared", mode="read"), "few rows that others refer to, and of nobody", "likely")
    if rows.to == "organization" and table.references:
        return Proposal(Decision(name, "organization"), "all rows so far are one organization's", "likely")
    if rows.to == "organization":
        return _question(table, "nothing says whose its rows are", Decision(name, "organization"), *_shared(table))
    ways = []
    if users and users.table:
        ways = [_along("owner", name, r) for r in table.references if r.target == users.table]
    elif users:
        ways = [Decision(name, "owner", (c.name,)) for c in table.columns if c.holds == "user"]
    if not ways or _parents(table, users):
        return None  # with a foreign key elsewhere too it depends on where that leads
    return _choose(table, ways, "names its user")


def _of_organizations(table: Table, organizations: Source) -> Decision:
    """In the app's own table of them each sees its own row, by the column that names it already if there is one."""
    key = table.column(organizations.key)
    by_key = organizations.key if key and key.holds == "organization" else ""
    named = table.column(organizations.clerk_id or by_key)
    if named and named.type.startswith(("text", "character varying")):
        return Decision(table.name, "column", (named.name,))
    return Decision(table.name, "owner", (organizations.key,))


def _way(schema: Schema, table: Table, reference: Reference, organizations: Source) -> Decision:
    """By Clerk's id where the foreign key is on that, else as the organization's own row is told, so that the key can
    carry the tenant."""
    if organizations.clerk_id == reference.target_columns[0] and len(reference.columns) == 1:
        return Decision(table.name, "column", reference.columns)
    own = _of_organizations(schema.tables[organizations.table], organizations)
    return _along("reference" if own.tenant == "column" else "owner", table.name, reference)


def _along(tenant: Kind, name: str, reference: Reference) -> Decision:
    told = "" if reference.enforced else format_target(reference.target, reference.target_columns)
    return Decision(name, tenant, reference.columns, refers_to=told)


def _parents(table: Table, users: Source | None) -> list[Reference]:
    return [r for r in table.references if r.target != table.name and not (users and r.target == users.table)]


def _choose(table: Table, ways: list[Decision], reason: str) -> Proposal:
    if len(ways) > 1:
        named = " or ".join(", ".join(way.column) for way in ways)
        return _question(table, f"several columns could say whose its rows are: {named}", *ways)
    column = table.column(ways[0].column[0])
    optional = column is not None and not column.not_null
    told = f"{', '.join(ways[0].column)} {reason}" + (", where it is not null" if optional else "")
    if ways[0].refers_to:
        return Proposal(ways[0], f"{told}: the models say so, the database does not see to it", "likely")
    return Proposal(ways[0], told, "likely" if optional else "certain")


def _question(table: Table, reason: str, *choices: Decision) -> Proposal:
    return Proposal(Decision(table.name, "undecided"), reason, "question", choices)


def _is_looked_up(schema: Schema, table: Table, users: Source | None) -> bool:
    """Whether a table is a short list that others refer to, such as countries; it names no user."""
    names_user = any(c.holds for c in table.columns) or any(
        users and reference.target == users.table for reference in suggest(schema, table, users)
    )
    return bool(schema.referring[table.name]) and table.rows < _LOOKUP_ROWS and not names_user


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
    return None if target.tenant == "shared" else _along("reference", name, reference)


# --- of nobody --------------------------------------------------------------------------------------------------------


def _without_owner(
    schema: Schema, tables: Mapping[str, Table], table: Table, users: Source | None, organizations: Source | None
) -> Proposal:
    suggested = suggest(schema, table, users)
    named = [way for r in suggested if (way := _suggestion(schema, table, r, users, organizations))]
    if kinds := polymorphic(table):
        told = f"{', '.join(sorted(kinds))} refers to one of several tables, by name"
        return _question(table, told, *named, *_shared(table))
    ways = [_along("reference", table.name, r) for r in table.references
            if r.target != table.name and not tables[r.target].refusal] if table.references else []  # fmt: skip
    reason = "its foreign keys lead in a circle, or to nobody" if ways else "nothing says whose its rows are"
    if named and not ways:
        reason = f"no foreign key says whose its rows are; by name and type could {_listing(named)}"
    return _question(table, reason, *ways, *named, *_shared(table))


def _doubt(
    schema: Schema, table: Table, proposal: Proposal, users: Source | None, organizations: Source | None
) -> Proposal:
    """A question instead, where by their names other columns could say whose the rows are just as well."""
    decision = proposal.decision
    reference = table.reference(decision.column)
    of_organization = organizations and reference and reference.target == organizations.table
    if decision.tenant not in ("owner", "reference") or reference is None or of_organization:
        return proposal
    others = []
    for suggested in suggest(schema, table, users):
        target = schema.tables[suggested.target]
        is_list = not target.references and _is_looked_up(schema, target, users)
        is_source = target.name in (source.table for source in (users, organizations) if source)
        if (is_source or not is_list) and (way := _suggestion(schema, table, suggested, users, organizations)):
            others.append(way)
    if not others:
        return proposal
    return _question(table, f"{proposal.reason}; by name and type so could {_listing(others)}", decision, *others)


def _suggestion(
    schema: Schema, table: Table, reference: Reference, users: Source | None, organizations: Source | None
) -> Decision | None:
    if organizations and reference.target == organizations.table:
        return _way(schema, table, reference, organizations)
    return _along("owner" if users and reference.target == users.table else "reference", table.name, reference)


def _listing(ways: list[Decision]) -> str:
    return ", ".join(f"{way.column[0]} of {way.refers_to}" if way.refers_to else way.column[0] for way in ways)
