"""What a move cannot do safely: objects of the app that it would break, or that undoing it would not bring back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tenantry.adopt import catalog, references
from tenantry.adopt import plan as plans
from tenantry.adopt.catalog import Schema, Table
from tenantry.adopt.keys import Keys
from tenantry.adopt.names import listing
from tenantry.adopt.plan import Decision, Plan, tenant_column

if TYPE_CHECKING:
    import psycopg

_Found = Mapping[str, Mapping[str, list[str]]]  # by table: names of objects by kind


def list_problems(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> list[str]:
    """What has to be changed first, a sentence each. `plan` is one that `plan.check` found nothing wrong with."""
    found = _read(connection)
    problems = []
    for decision in plan.decisions:
        told = [*_check_names(schema.tables[decision.table]), *_check_grants(found[decision.table])]
        if decision.is_owned:
            told += _check_rules(found[decision.table])
            told += _check_triggers(plan, schema, decision, found[decision.table])
            told += _check_keys(plan, schema, decision, found[decision.table])
        told += references.list_problems(connection, schema, decision)
        problems += [f"{decision.table}: {problem}" for problem in told]
    return problems


def list_notices(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> list[str]:
    """What is in nobody's way, and what somebody has to see to, a sentence each; none of a plan that does not fit."""
    if plans.check(plan, schema):
        return []
    found = _read(connection)
    notices = []
    for decision in plan.owned:
        kinds, column = found[decision.table], tenant_column(plan, schema, decision)
        if column.is_new and kinds["publication"]:
            notices.append(
                f"{decision.table}: {listing(kinds['publication'])} publishes it. Give its subscribers the column "
                f"{column.name} {column.type} first, else they stop."
            )
        notices += [
            f"{decision.table}: the materialized view {view} reads it, and goes on showing the rows of all tenants: "
            "revoke it from whoever works for one."
            for view in kinds["materialized"]
        ]
        notices += [
            f"{decision.table}: {notice}" for notice in references.list_notices(connection, plan, schema, decision)
        ]
    return notices


def _read(connection: psycopg.Connection[Any]) -> _Found:
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    with connection.transaction():
        connection.execute("set local search_path = pg_catalog")
        for table, kind, name in catalog.ask(connection, "obstacles"):
            found[table][kind].append(name)
    return found


def _check_names(table: Table) -> Iterator[str]:
    """Functions and blocks of the steps are quoted by $$."""
    names = [table.name, *(column.name for column in table.columns), *(name for name, _ in table.parts)]
    names += [name for index in table.indexes for name in (index.name, index.constraint)]
    names += [reference.name for reference in table.references]
    for name in dict.fromkeys(name for name in names if "$$" in name):
        yield f"the name {name} holds $$, at which a step's SQL would end: rename it."


def _check_grants(kinds: Mapping[str, list[str]]) -> Iterator[str]:
    if columns := kinds["grant"]:
        yield (
            f"somebody has rights on its column {listing(columns)} alone, which an undo would not bring back: revoke "
            "them, and grant them again after `contract`."
        )


def _check_rules(kinds: Mapping[str, list[str]]) -> Iterator[str]:
    """Row level security that is not Tenantry's."""
    advice = "Drop policies and disable it first: isolation takes their place, and an undo would not bring them back."
    if policies := kinds["policy"]:
        yield f"it has policies of its own ({listing(policies)}). {advice}"
    elif kinds["security"]:
        yield f"row level security is enabled on {listing(kinds['security'])} already. {advice}"


def _check_triggers(plan: Plan, schema: Schema, decision: Decision, kinds: Mapping[str, list[str]]) -> Iterator[str]:
    """Those that run for each row of the backfill even while the app's other triggers are kept quiet."""
    filled = tenant_column(plan, schema, decision).is_new and decision.tenant != "organization"
    if kinds["trigger"] and filled and not decision.triggers:
        yield (
            f"its trigger {listing(kinds['trigger'])} is enabled ALWAYS or for REPLICA, and would run for every row "
            f"that gets a tenant. Run: alter table {decision.table} enable trigger ...; or write "
            'triggers = "fire".'
        )


def _check_keys(plan: Plan, schema: Schema, decision: Decision, kinds: Mapping[str, list[str]]) -> Iterator[str]:
    for name in kinds["identity"]:
        yield (
            f"its replica identity is the index {name}, which `contract` may drop. "
            f"Run: alter table {decision.table} replica identity full;"
        )
    keys = Keys(plan, schema, decision)
    for index in keys.table.indexes:
        if index.deferrable and keys.succeeds(index):
            yield (
                f"its key {index.constraint} is deferrable, which its successor with the tenant would not be while the "
                f'move lasts. Write keep = ["{index.constraint}"], or make the key one that is not deferrable.'
            )
