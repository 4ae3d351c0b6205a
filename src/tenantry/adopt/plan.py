"""What a person decides about a move: whose each table's rows are, and where a user's rows go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from tenantry.adopt.catalog import Column, Reference, Schema, Table
from tenantry.adopt.names import format_target, parse_target
from tenantry.errors import ConfigurationError

Kind = Literal["owner", "reference", "organization", "column", "shared", "undecided"]
To = Literal["personal", "organization", "column", "csv"]
Then = Literal["leave", "follow", "retire"]

KINDS: tuple[Kind, ...] = ("owner", "reference", "organization", "column", "shared", "undecided")
PLACES: tuple[To, ...] = ("personal", "organization", "column", "csv")
THEN: tuple[Then, ...] = ("leave", "follow", "retire")
MODES = ("read", "write", "none")

TENANT_COLUMN = "tenant_id"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whose the rows of a table are.

    owner         of the user, or of the app's own organization, that `column` names
    reference     of whose the row is that `column` refers to, by a foreign key or as `refers_to` says
    organization  all of one organization's: the one in [rows]
    column        of the organization whose Clerk id is in `column` already
    shared        nobody's: `mode` says whether tenants may read it, write it too, or neither
    undecided     a person has to say
    """

    table: str
    tenant: Kind
    column: tuple[str, ...] = ()
    mode: str = ""
    keep: tuple[str, ...] = ()  # keys and foreign keys that stay as they are
    triggers: str = ""  # `fire`: the app's own triggers may run for each row that gets its tenant
    refers_to: str = ""  # what `column` refers to, where no foreign key says so: `public.articles (id)`

    @property
    def is_owned(self) -> bool:
        """Whether its rows get a tenant."""
        return self.tenant not in ("shared", "undecided")


@dataclass(frozen=True, slots=True)
class Source:
    """The app's own table of users, or of organizations: its key, and where Clerk's ids of them are.

    Without a `table`, the columns that name users hold Clerk's ids themselves.

    `then` is what becomes of the app's own organizations: `leave` the table to the app, have it `follow` the mirror, in
    `columns` (name, slug, image_url, created_at, updated_at, deleted_at -> column), or `retire` it, so that no tenant
    reaches it any more.
    """

    table: str = ""
    key: str = ""
    clerk_id: str = ""
    email: str = ""
    csv: str = ""
    then: Then = "leave"
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """Where a user's rows go: to the user's own tenant, to one organization, or by a column or a file to several.

    `organizations` is the value of `column` (with `by = "domain"` the part of an address behind the @) -> Clerk id.
    `rest` is the organization that gets the rows of nobody known.
    """

    to: To = "personal"
    organization: str = ""
    column: str = ""
    by: str = ""
    organizations: Mapping[str, str] = field(default_factory=dict)
    csv: str = ""
    rest: str = ""


@dataclass(frozen=True)
class Plan:
    rows: Rows
    decisions: tuple[Decision, ...]
    users: Source | None = None
    organizations: Source | None = None

    @cached_property
    def by_table(self) -> Mapping[str, Decision]:
        return {decision.table: decision for decision in self.decisions}

    def of(self, table: str) -> Decision | None:
        return self.by_table.get(table)

    @property
    def owned(self) -> tuple[Decision, ...]:
        """The tables whose rows get a tenant."""
        return tuple(each for each in self.decisions if each.is_owned)

    @property
    def fixed(self) -> Plan:
        """Without what may still be added when the move has begun."""
        csv = "" if self.rows.to == "column" else self.rows.csv
        return replace(self, rows=replace(self.rows, organizations={}, csv=csv, rest=""))

    def source(self, schema: Schema, decision: Decision) -> Source | None:
        """What the column of an `owner` decision names: users or organizations."""
        reference = reference_of(schema, decision)
        target = reference.target if reference else decision.table
        if self.organizations and self.organizations.table == target:
            return self.organizations
        return self.users

    def sources(self, schema: Schema) -> list[tuple[Source, str]]:
        """Whom the tables name as owners, and what those are: `users`, or the app's own `organizations`."""
        named = [self.source(schema, each) for each in self.owned if each.tenant == "owner"]
        known = ((self.users, "users"), (self.organizations, "organizations"))
        return [(source, kind) for source, kind in known if source and source in named]


def restore(told: Mapping[str, Any]) -> Plan:
    """The plan that `asdict` told of, by way of JSON."""
    listed: dict[str, Any]
    decisions = []
    for listed in told["decisions"]:
        decisions.append(Decision(**listed | {name: tuple(listed[name]) for name in ("column", "keep")}))
    users, organizations = (Source(**told[name]) if told[name] else None for name in ("users", "organizations"))
    return Plan(Rows(**told["rows"]), tuple(decisions), users, organizations)


def list_differences(begun: Plan, plan: Plan) -> list[str]:
    """The sections of `adopt.toml` that are not as the move began with them, where they have to stay so."""
    sections: dict[str, tuple[object, object]] = {
        "[rows]": (begun.fixed.rows, plan.fixed.rows),
        "[users]": (begun.users, plan.users),
        "[organizations]": (begun.organizations, plan.organizations),
    }
    for name in sorted(begun.by_table.keys() | plan.by_table.keys()):
        sections[f'[tables."{name}"]'] = (begun.of(name), plan.of(name))
    return [section for section, (before, now) in sections.items() if before != now]


@dataclass(frozen=True, slots=True)
class TenantColumn:
    """Which column of a table says whose its rows are, and what of a tenant it holds: `id` or `clerk_org_id`."""

    name: str
    key: str
    type: str
    is_new: bool

    @property
    def current(self) -> str:
        """In SQL: what such a column holds of the tenant of the transaction, as text; null without one."""
        setting = "tenantry.tenant_id" if self.key == "id" else "tenantry.org_id"
        return f"nullif(pg_catalog.current_setting('{setting}', true), '')"


def tenant_column(plan: Plan, schema: Schema, decision: Decision) -> TenantColumn:
    """A new `tenant_id`; where the rows, or those they get it from, name Clerk's id already, the column of that."""
    if decision.tenant == "column":
        return TenantColumn(decision.column[0], "clerk_org_id", "text", is_new=False)
    seen = {decision.table}
    parent = plan.of(parent_of(schema, decision) or "")
    while parent is not None and parent.table not in seen:
        if parent.tenant == "column":
            return TenantColumn(parent.column[0], "clerk_org_id", "text", is_new=True)
        seen.add(parent.table)
        parent = plan.of(parent_of(schema, parent) or "")
    return TenantColumn(TENANT_COLUMN, "id", "uuid", is_new=True)


def value_of(rows: Rows, row: str) -> str:
    """In SQL: by what a row of the users' table says which organization its user's rows go to."""
    value = f"{row}.{rows.column}::text"
    return f"lower(split_part({value}, '@', 2))" if rows.by == "domain" else value


def sort(plan: Plan, schema: Schema) -> list[Decision]:
    """The tables that get a tenant, each after the one it gets it from. Raises ConfigurationError at a circle."""
    left = {decision.table: decision for decision in plan.owned}
    ordered: list[Decision] = []
    while left:
        ready = [d for d in left.values() if parent_of(schema, d) not in left]
        if not ready:
            names = ", ".join(sorted(left))
            raise ConfigurationError(
                f"These tables get their tenant from each other, and none from a user: {names}.",
                hint="Give one of them another owner in adopt.toml.",
            )
        for decision in ready:
            ordered.append(left.pop(decision.table))
    return ordered


def reference_of(schema: Schema, decision: Decision) -> Reference | None:
    """What the column of a decision refers to: by a foreign key, else as the plan says."""
    enforced = schema.tables[decision.table].reference(decision.column)
    if enforced or not decision.refers_to:
        return enforced
    return Reference("", decision.column, *parse_target(decision.refers_to), enforced=False)


def parent_of(schema: Schema, decision: Decision) -> str | None:
    """The table that a table gets its tenant from."""
    if decision.tenant != "reference":
        return None
    reference = reference_of(schema, decision)
    return reference.target if reference else None


def check(plan: Plan, schema: Schema) -> list[str]:
    """What contradicts itself or the database, a sentence each, beginning with the table it is about."""
    problems = []
    for decision in plan.decisions:
        table = schema.tables.get(decision.table)
        if table is None:
            problems.append(f"{decision.table} is not in the database.")
        elif decision.tenant == "undecided":
            problems.append(f"{decision.table} is undecided: say whose its rows are.")
        else:
            problems += [f"{decision.table}: {problem}" for problem in _check_table(plan, schema, table, decision)]
    known = {decision.table for decision in plan.decisions}
    problems += [f"{name} is not in adopt.toml: run `tenantry adopt plan`." for name, table in schema.tables.items()
                 if name not in known and not table.isolation]  # fmt: skip
    return problems + _check_sources(plan, schema)


def _check_table(plan: Plan, schema: Schema, table: Table, decision: Decision) -> list[str]:
    missing = [name for name in decision.column if table.column(name) is None]
    if missing:
        return [f"it has no column {', '.join(missing)}."]
    if decision.tenant == "shared":
        return [] if decision.mode in MODES else [f'mode is one of {", ".join(MODES)}, not "{decision.mode}".']
    problems = check_target(schema, table, decision) or _check_kind(plan, schema, table, decision)
    if table.refusal:
        problems.append(f"its rows can have no tenant, because {table.refusal}: share it, with mode none if need be.")
    column = tenant_column(plan, schema, decision)
    if column.is_new and table.unidentified:
        problems.append("it is published and has no primary key, so no row can be updated: give it a replica identity.")
    if column.is_new and table.column(column.name):
        problems.append(
            f"it has a column {column.name} already: rename it first, or say what it holds with tenant = column."
        )
    if column.is_new and table.triggers and not decision.triggers and not schema.may_be_quiet:
        problems.append(
            f"its trigger {', '.join(table.triggers)} would run for every row that gets a tenant. Either a superuser "
            f'runs: grant set on parameter session_replication_role to {schema.login}; or write triggers = "fire".'
        )
    names = {each.name for each in table.references}
    names |= {name for index in table.indexes for name in (index.name, index.constraint)}
    problems += [f"it has no key {name} to keep." for name in decision.keep if name not in names]
    return problems


def _check_kind(plan: Plan, schema: Schema, table: Table, decision: Decision) -> list[str]:
    named = ", ".join(decision.column)
    if decision.tenant == "organization":
        named_there = plan.rows.organization or plan.rows.to == "organization"  # or asked for with the sources
        return [] if named_there else ["the organization it goes to is not named in [rows]."]
    if not decision.column:
        return ["it says no column."]
    reference = reference_of(schema, decision)
    if decision.tenant == "reference":
        parent = plan.of(reference.target) if reference else None
        if reference is None:
            return [f'no foreign key is on {named}. Say what it refers to: refers_to = "schema.table (column)".']
        if reference.target == table.name:
            return [f"{named} refers to the same table, whose rows would get their tenant from each other."]
        if parent is None or not parent.is_owned:
            return [f"{named} refers to {reference.target}, whose rows get no tenant."]
        return []
    if len(decision.column) > 1:
        return [f"{named} are several columns, and {decision.tenant} takes one."]
    if decision.tenant == "column":
        found = table.column(decision.column[0])
        is_text = found is not None and found.type.startswith(("text", "character varying"))
        return [] if is_text or found is None else [f"{named} is {found.type}, and Clerk's ids are text."]
    source = plan.source(schema, decision)
    if source is None:
        return ["adopt.toml has no [users]."]
    if (source.table or decision.refers_to) and not (
        (source.table == table.name and decision.column == (source.key,))
        or (reference and reference.target == source.table and reference.target_columns == (source.key,))
    ):
        if reference and not reference.enforced:
            key = format_target(source.table, (source.key,)) if source.table else "of no table"
            return [f"{named} refers to {decision.refers_to}, and the users' key in adopt.toml is {key}."]
        return [f"{named} is no foreign key to {source.table} ({source.key})."]
    return []


def check_target(schema: Schema, table: Table, decision: Decision) -> list[str]:
    """Whether each row can refer to one row at most of what the plan says it does."""
    if not decision.refers_to:
        return []
    if decision.tenant not in ("owner", "reference"):
        return [f'refers_to goes with tenant = "owner" or "reference", not "{decision.tenant}".']
    name, columns = parse_target(decision.refers_to)
    target, named = schema.tables.get(name), format_target(name, columns)
    if target is None:
        return [f"it refers to {named}, which is not in the database."]
    if missing := [column for column in columns if target.column(column) is None]:
        return [f"it refers to {named}, and that has no column {', '.join(missing)}."]
    if len(columns) != len(decision.column):
        return [f"{', '.join(decision.column) or 'no column'} cannot refer to {named}: as many columns on either side."]
    enforced = table.reference(decision.column)
    if enforced and (enforced.target, enforced.target_columns[-len(columns) :]) != (name, columns):
        return [f"{', '.join(decision.column)} refers to {enforced.target} by the foreign key {enforced.name}."]
    differing = [
        f"{ours} is {here.type}, and {theirs} of {name} is {there.type}: give them one type."
        for ours, theirs in zip(decision.column, columns, strict=True)
        if (here := table.column(ours)) and (there := target.column(theirs)) and not are_comparable(here, there)
    ]
    if differing or enforced:
        return differing
    unique = [i for i in target.indexes if i.unique and i.plain and i.valid and not i.predicate]
    if not any(set(i.columns) == set(columns) for i in unique):
        return [f"it refers to {named}, which is not unique: several rows could say whose its are."]
    return []


def are_comparable(one: Column, other: Column) -> bool:
    """Whether the values of two columns equal each other without a cast, and find each other by an index."""
    return _family(one.type) == _family(other.type)


def _family(type_: str) -> str:
    bare = re.sub(r"\(.*\)", "", type_)  # without its length
    return {"smallint": "integer", "bigint": "integer", "character varying": "text"}.get(bare, bare)


def _check_sources(plan: Plan, schema: Schema) -> list[str]:
    problems = []
    for section, source in (("[users]", plan.users), ("[organizations]", plan.organizations)):
        if source is None or not source.table:
            continue
        table = schema.tables.get(source.table)
        if table is None:
            problems.append(f"{section}: {source.table} is not in the database.")
            continue
        names = [name for name in (source.key, source.clerk_id, source.email) if name]
        if plan.rows.to == "column" and source is plan.users:
            names.append(plan.rows.column)
        problems += [f"{section}: {source.table} has no column {name or '(none is given)'}." for name in names
                     if table.column(name) is None]  # fmt: skip
        if not any(i.unique and not i.predicate and i.columns == (source.key,) for i in table.indexes):
            problems.append(f"{section}: {source.table} ({source.key}) is not unique.")
        takes_clerk_ids = source is plan.organizations or plan.rows.to == "personal"
        if takes_clerk_ids and not (source.clerk_id or source.csv or source.email):
            problems.append(f"{section}: say where Clerk's ids are: clerk_id, email or csv.")
    rows = plan.rows
    if rows.to == "organization" and not rows.organization:
        problems.append(
            '[rows]: to = "organization" takes organization = "org_...":'
            ' `tenantry adopt organizations --name "..."` makes one.'
        )
    if rows.to == "column" and not (rows.column and plan.users and plan.users.table):
        problems.append("[rows]: to = column takes a column of the table in [users].")
    if rows.to == "csv" and not (rows.csv and plan.users and plan.users.table):
        problems.append("[rows]: to = csv takes a csv, and a table in [users].")
    return problems
