"""What becomes of an app's own table of organizations: it is left, follows the mirror from now on, or is retired."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tenantry.adopt import ddl
from tenantry.adopt.catalog import Schema
from tenantry.adopt.names import listing, literal, plain
from tenantry.adopt.plan import Plan, Source
from tenantry.adopt.step import Step

if TYPE_CHECKING:
    import psycopg


def list_problems(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> list[str]:
    """Why it cannot be done as the plan says, a sentence each."""
    source = plan.organizations
    if source is None or source.then == "leave":
        return []
    if source.then == "retire":
        return list(_still_used(schema, source))
    if not source.clerk_id:
        return [f'[organizations]: {source.table} needs clerk_id to follow: without Clerk\'s ids write then = "leave".']
    return list(_refused(connection, source))


def list_notices(plan: Plan) -> list[str]:
    """What becomes of the table, and what that takes of a person."""
    source = plan.organizations
    if source is None:
        return []
    if source.then == "leave":
        told = (
            'stays the app\'s own. With then = "follow" or "retire" in [organizations] its handler of webhooks can go.'
        )
    elif source.then == "follow":
        told = (
            "follows the mirror from `constrain` on, and webhooks wait for its triggers. A handler of yours that still "
            "inserts says `on conflict`."
        )
    else:
        told = "is out of tenants' reach after `contract`: see that no query and no function reads it."
    return [f"{source.table}: it {told}"]


def _still_used(schema: Schema, source: Source) -> Iterator[str]:
    advice = 'Drop that first, or write then = "follow".'
    for table, reference in schema.referring[source.table]:
        if table.name != source.table:
            told = f"{table.name} refers to it ({reference.name})"
            yield f"[organizations]: {source.table} cannot be retired: {told}. {advice}"
    if views := [view.name for view in schema.views if source.table in view.reads]:
        yield f"[organizations]: {source.table} cannot be retired: the view {listing(views)} reads it. {advice}"


def _refused(connection: psycopg.Connection[Any], source: Source) -> Iterator[str]:
    """What follow_tenants_v1 would say."""
    import psycopg

    options = _options(source)
    values = [source.table, json.dumps(options), options["org_id"], json.dumps(options["columns"])]
    try:
        with connection.transaction():
            query = "select tenantry.check_follower_options(%s::regclass, %s::jsonb, %s, %s::jsonb)"
            connection.execute(query, values)
    except psycopg.Error as error:
        if not (error.sqlstate or "").startswith("TY"):
            raise
        yield f"[organizations]: {error.diag.message_detail}."


def _options(source: Source) -> dict[str, Any]:
    columns = {what: plain(column) for what, column in source.columns.items()}
    return {"org_id": plain(source.clerk_id), "columns": columns, "copy": "later"}


def follow(plan: Plan, schema: Schema) -> Iterator[Step]:
    """From here on the mirror writes the table, while the app's own handler still may; what it has written stays."""
    source = plan.organizations
    if source is None or source.then != "follow":
        return
    table = literal(source.table)
    undo = (
        f"do $$ begin if exists (select from tenantry.followers where relation = {table}::regclass) then\n"
        f"  perform tenantry.unfollow_tenants_v1({table}); end if; end $$"
    )
    sql = f"select tenantry.follow_tenants_v1({table}, {literal(json.dumps(_options(source)))})"
    yield Step("constrain", _following(source), source.table, "together", (sql,), (undo,), "SHARE")
    sql = "do $$ begin while (tenantry.catch_up_v1() ->> 'copied')::integer > 0 loop commit; end loop; end $$"
    name = f"copy the mirror's organizations into {source.table}"
    yield Step("constrain", name, source.table, "alone", (sql,), rows=schema.tables[source.table].rows)


def tell_kept(plan: Plan, undone: Iterable[Step]) -> Iterator[str]:
    """What stays when these steps are undone: whose rows would go with an organization's, nobody can tell from here."""
    source = plan.organizations
    if source is not None and any(step.name == _following(source) for step in undone):
        yield (
            f"{source.table}: it follows the mirror no more. What was copied into it meanwhile stays: organizations "
            "that it did not have, and what is called as at Clerk now."
        )


def _following(source: Source) -> str:
    return f"have {source.table} follow the mirror"


def retire(plan: Plan) -> Iterator[Step]:
    """The table stays, and no tenant reaches it any more."""
    source = plan.organizations
    if source is None or source.then != "retire":
        return
    table = literal(source.table)
    used = (
        f"select (select count(*) from pg_constraint where confrelid = {table}::regclass and conrelid <> confrelid)"
        f" + cardinality(tenantry.views_of({table}::regclass))"
    )
    problem = f"{source.table} cannot be retired: {{count}} foreign keys and views lead to it. Drop them first."
    yield Step("contract", f"see that nothing reads {source.table}", source.table, "check", (used,), problem=problem)
    sql = (ddl.drop_isolation(source.table), f"select tenantry.share_table_v1({table}, 'none')")
    yield Step("contract", f"retire {source.table}", source.table, "together", sql, lock="ACCESS EXCLUSIVE")
