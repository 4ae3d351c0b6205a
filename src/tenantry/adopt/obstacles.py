"""What a move cannot do safely: objects of the app that it would break, or that undoing it would not bring back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tenantry.adopt import catalog, functions, references
from tenantry.adopt import plan as plans
from tenantry.adopt.catalog import Dependant, Schema, Table
from tenantry.adopt.functions import Function
from tenantry.adopt.keys import Keys
from tenantry.adopt.names import listing
from tenantry.adopt.plan import Decision, Plan, TenantColumn, tenant_column
from tenantry.adopt.step import Step

if TYPE_CHECKING:
    import psycopg

_Found = Mapping[str, Mapping[str, list[str]]]  # by table: names of objects by kind


def list_problems(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> list[str]:
    """What has to be changed first, a sentence each. `plan` is one that `plan.check` found nothing wrong with."""
    found, written = _read(connection), functions.read(connection)
    problems = []
    for decision in plan.decisions:
        told = [*_check_names(schema.tables[decision.table]), *_check_grants(found[decision.table])]
        if decision.is_owned:
            told += _check_rules(found[decision.table])
            told += _check_triggers(plan, schema, decision, found[decision.table])
            told += _check_rows(plan, schema, decision, found[decision.table], written)
            told += _check_keys(plan, schema, decision, found[decision.table])
        told += references.list_problems(connection, schema, decision)
        problems += [f"{decision.table}: {problem}" for problem in told]
    return problems


def list_notices(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> list[str]:
    """What is in nobody's way, and what somebody has to see to, a sentence each; none of a plan that does not fit."""
    if plans.check(plan, schema):
        return []
    found, written = _read(connection), functions.read(connection)
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
        told = [*_tell_of_rows(decision, column, kinds, written), *_tell_of_writes(plan, decision, written)]
        told += _tell_of_keys(Keys(plan, schema, decision))
        told += references.list_notices(connection, plan, schema, decision)
        notices += [f"{decision.table}: {notice}" for notice in told]
    return notices


def list_dependants(connection: psycopg.Connection[Any], steps: Iterable[Step]) -> list[str]:
    """What depends on a key that these steps would drop, and was made after they were planned, a sentence each."""
    drops = {step.drops for step in steps if step.drops}
    with connection.transaction():
        connection.execute("set local search_path = pg_catalog")
        found = catalog.list_dependants(connection)
    return [
        _told_of(each) for each in found
        if (each.table, each.index) in drops and not (each.kind == "foreign key" and (each.of, each.name) in drops)
    ]  # fmt: skip


def _told_of(each: Dependant) -> str:
    start = f"{each.table}: {each.told} depends on its key {each.index}, which would go. Drop it"
    if each.kind == "foreign key":
        return (
            f"{start}: alter table {each.of} drop constraint {each.name}; and afterwards have one that carries the "
            f"tenant. It is: {each.definition}"
        )
    if each.definition:
        again = " ".join(each.definition.split())
        return (
            f"{start}: drop {each.kind} {each.name}; and make it again afterwards, with the tenant's column in its "
            f"GROUP BY too: create {each.kind} {each.name} as {again}"
        )
    return f"{start}, and make it again afterwards, with the tenant's column beside that of the key."


# --- what a column more does ------------------------------------------------------------------------------------------


def _check_rows(
    plan: Plan, schema: Schema, decision: Decision, kinds: Mapping[str, list[str]], written: list[Function]
) -> Iterator[str]:
    if not tenant_column(plan, schema, decision).is_new:
        return
    table = schema.tables[decision.table]
    for function in written:
        if copied := function.copies(table.name):
            yield (
                f"its trigger runs {function.name}, which inserts whole rows of it into {copied[0]}, and would fail "
                f"with a column more. Have it name the columns first: {functions.advise(table, *copied)} ..."
            )
    if kinds["rowtype"] and decision.tenant == "organization":
        yield (
            f"{listing(kinds['rowtype'])} holds whole rows of it, and PostgreSQL then adds no column with a default: "
            "make it a jsonb, or give the table another owner."
        )


def _tell_of_rows(
    decision: Decision, column: TenantColumn, kinds: Mapping[str, list[str]], written: list[Function]
) -> Iterator[str]:
    if not column.is_new:
        return
    for function in written:
        if not function.copies(decision.table) and (doing := function.looks_at(decision.table)):
            yield f"by its look the function {function.name} {doing}, and may fail with a column more: see to it first."
    for view in kinds["whole"]:
        yield f"the view {view} shows or compares whole rows of it, which then have the column {column.name} too."


def _tell_of_writes(plan: Plan, decision: Decision, written: list[Function]) -> Iterator[str]:
    """Archives and the like, which a transaction with a tenant then writes to."""
    closed = [each for each in plan.decisions if each.tenant == "shared" and each.mode != "write"]
    for function in written:
        if decision.table not in function.triggers or function.definer:
            continue
        for each in closed:
            if any(functions.is_named(each.table, target) for target in function.writes()):
                may = "only read" if each.mode == "read" else "not use"
                yield (
                    f"its trigger runs {function.name}, which writes to {each.table}, and that tenants may {may}: make "
                    f"it security definer with a search_path of its own, or share {each.table} with mode write."
                )


def _tell_of_keys(keys: Keys) -> Iterator[str]:
    for index in keys.table.indexes:
        if index.needed_by and keys.could_succeed(index):
            yield (
                f"its key {index.name} stays as it is, without the tenant, because of {listing(index.needed_by)}. To "
                "let it have the tenant, change that first: a view can group by all the columns that it shows."
            )


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
    succeeded = [index for index in keys.table.indexes if keys.succeeds(index)]
    places = {stored.tablespace for index in succeeded for stored in index.storage}
    for place in sorted(places & set(kinds["tablespace"])):
        yield (
            f"an index of it is in the tablespace {place}, where its owner may make none: "
            f"grant create on tablespace {place} to {keys.table.owner};"
        )
    if kinds["published columns"] and any(index.primary for index in succeeded):
        yield (
            f"{listing(kinds['published columns'])} publishes a list of its columns, and the tenant, which joins its "
            "primary key, is none of them: publish all columns, or keep that key."
        )
    for reference, _ in keys.composites():
        if not reference.validated:
            yield (
                f"its foreign key {reference.name} was never validated. "
                f"Run: alter table {decision.table} validate constraint {reference.name}; or write "
                f'keep = ["{reference.name}"].'
            )
    for index in succeeded:
        if index.deferrable:
            yield (
                f"its key {index.constraint} is deferrable, which its successor with the tenant would not be while the "
                f'move lasts. Write keep = ["{index.constraint}"], or make the key one that is not deferrable.'
            )
