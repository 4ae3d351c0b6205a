"""An app's own table of organizations is compared with the mirror before it is left behind."""

from __future__ import annotations

from adopt import worlds
from adopt.worlds import World, schema_of
from databases import OWNER, SUPERUSER, Database
from sql.tenants import run
from tenantry.adopt import drift


def found(world: World) -> list[str]:
    with world.database.connect(OWNER) as owner:
        return drift.find(owner, world.plan, schema_of(world.database))


def test_each_difference_is_a_sentence(database: Database) -> None:
    world = worlds.handmade(database)
    with database.connect(SUPERUSER) as superuser:
        run(
            superuser,
            "update organizations set name = 'Name of org_one' where clerk_org_id = 'org_one'",
            "insert into organizations (clerk_org_id, name) values ('org_stranger', 'S'), ('org_gone', 'G')",
        )
    worlds.mirror_organizations(database, ["org_new", "org_gone"])
    with database.connect(SUPERUSER) as superuser:
        run(superuser, "update tenantry.tenants set deleted_at = now() where clerk_org_id = 'org_gone'")
    assert found(world) == [
        "public.organizations: org_gone has been deleted at Clerk.",
        "public.organizations: org_stranger is not in the mirror: `tenantry reconcile`, or another instance has it.",
        'public.organizations: org_two is called "Two", and "Name of org_two" at Clerk.',
        "public.organizations: org_new is missing.",
    ]


def test_without_such_a_table_there_is_nothing_to_say(database: Database) -> None:
    assert found(worlds.publishing(database)) == []
