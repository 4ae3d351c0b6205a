"""A plan as ordered steps, each with its SQL, the SQL that undoes it, and what it locks. Pure: nothing is run here.

Theory of operation.
- expand: each table gets a nullable column, which rewrites nothing, and triggers: a row that is written without a
  tenant gets the one its owner has; a row whose tenant changes takes along those that follow it, also where its table
  names the organization already. An app that knows nothing of tenants goes on as before; where nobody can be found the
  column stays null.
- backfill: the rows of before, by ranges of the table's pages, parents first.
- constrain: the tenant's foreign key, indexes led by the tenant, and composite foreign keys along the way that rows
  got their tenant, save deferrable ones; then what an app of tenants needs in order to run. None of it can fail an app
  that knows of none.
- isolate: what can, once the app sets a tenant: NOT NULL, the other composite keys, row level security.
- contract: the triggers go, and so do the keys and indexes that have a successor, whose names the successors take.

Everything but contract is undone exactly. A statement that may be run again does then what is left to do.
"""

from __future__ import annotations

from tenantry.adopt import grants, handmade, owners
from tenantry.adopt.catalog import Schema
from tenantry.adopt.keys import Keys
from tenantry.adopt.names import split
from tenantry.adopt.plan import Decision, Plan, Source, sort
from tenantry.adopt.step import Known, Step
from tenantry.adopt.transition import Transition


def build(plan: Plan, schema: Schema, known: Known) -> tuple[Step, ...]:
    """All steps of a plan that `plan.check` found nothing wrong with."""
    transitions = list_transitions(plan, schema, known)
    shares = [decision for decision in plan.decisions if decision.tenant == "shared"]
    sources = plan.sources(schema)
    steps = [owners.make_place(known)]
    steps += [owners.make_mapping(plan, schema, source, kind) for source, kind in sources]
    for each in transitions:
        steps += each.expand()
    for each in transitions:
        steps += each.follow()
    for source, kind in sources:
        naming = [each.decision for each in transitions if _names(each, source)]
        steps += owners.fill_mapping(plan, schema, source, kind, naming)
    steps.append(owners.give_rest())
    for each in transitions:
        steps += each.backfill()
    for each in transitions:
        steps += each.constrain()
    steps += _open(schema, transitions, shares)
    steps += handmade.follow(plan, schema)
    for each in transitions:
        steps += each.require()
    steps += [each.isolate() for each in transitions]
    steps += [grants.share(schema, decision) for decision in shares]
    for each in transitions:
        steps += each.clear()
    for each in transitions:  # all of these before the first of those, which they may refer to
        steps += each.keys.replace_references()
    for each in transitions:
        steps += each.keys.replace_indexes()
    steps += handmade.retire(plan)
    return (*steps, *owners.remove_place(schema, sources))


def list_transitions(plan: Plan, schema: Schema, known: Known) -> list[Transition]:
    """The tables that get a tenant, each after the one it gets it from."""
    return [Transition(plan, schema, known, decision) for decision in sort(plan, schema)]


def _names(transition: Transition, source: Source) -> bool:
    return transition.decision.tenant == "owner" and transition.source == source


def kept(plan: Plan, schema: Schema) -> set[tuple[str, str]]:
    """(code of check_v1, table) of what stays across tenants, because the plan says so or it cannot be otherwise."""
    found = set()
    for decision in plan.owned:
        keys = Keys(plan, schema, decision)
        found |= {("TC10", decision.table) for index in keys.table.indexes if keys.stays_across(index)}
        found |= {("TC11", decision.table) for r in keys.table.references if keys.crosses(r)}
        found |= {("TC12", decision.table)}  # a matter of speed: the app's own indexes are left as they are
        found |= {("TC25", decision.table)}
    return found | {("TC09", decision.table) for decision in plan.decisions if decision.tenant == "shared"}


def _open(schema: Schema, transitions: list[Transition], shares: list[Decision]) -> list[Step]:
    """Lets an app that sets a tenant in each transaction run, before there is isolation."""
    steps = []
    tables = [(each.table, "write", each) for each in transitions]
    named = [(schema.tables[decision.table], decision.mode, None) for decision in shares]
    spaces = sorted({split(table.name)[0] for table, *_ in [*tables, *named]})
    sql = [f"grant usage on schema {space} to tenantry_tenant, tenantry_bypass" for space in spaces]
    undo = [line for space in spaces for line in grants.give_back("schema", space, schema.namespaces.get(space, ()))]
    steps.append(Step("constrain", "let tenants into the schemas", "", "together", tuple(sql), tuple(undo)))
    for table, mode, each in [*tables, *named]:
        opened, back = each.open_default() if each else ([], [])
        undo = [*back, *grants.give_back("table", table.name, table.grants)]
        undo += [line for sequence, held in table.sequences for line in grants.give_back("sequence", sequence, held)]
        lock = "ACCESS EXCLUSIVE" if opened else ""
        steps.append(
            Step(
                "constrain",
                f"let tenants use {table.name}",
                table.name,
                "together",
                (*grants.opened(table, mode), *opened),
                tuple(undo),
                lock,
                table.leaves if opened else (),
            )
        )
    for view in grants.views(schema, [each.table for each in transitions]):
        undo = grants.give_back("table", view.name, view.grants)
        sql = [f"grant select on {view.name} to tenantry_tenant, tenantry_bypass"]
        steps.append(Step("constrain", f"let tenants read {view.name}", view.name, "together", tuple(sql), tuple(undo)))
    return steps
