"""An app's own table of organizations is left, follows the mirror from `constrain` on, or is retired at `contract`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adopt import worlds
from adopt.comparing import state
from adopt.test_script import follow as follow_script
from adopt.test_script import write, write_undo
from adopt.worlds import World, schema_of
from databases import APP, OWNER, SUPERUSER, Database
from sql.tenants import Connection, findings, organization, read, record, refused, rows, run
from tenantry.adopt import config, drift, move, ownership
from tenantry.adopt.plan import Decision, Rows, Then
from tenantry.adopt.step import PHASES, Phase
from tenantry.errors import AdoptionRefused

NAMES = "select concat_ws(' ', clerk_org_id, name) from organizations"
RIGHT = ["org_one Name of org_one", "org_two Name of org_two"]


def with_then(world: World, then: Then, **changes: Any) -> World:
    assert world.plan.organizations is not None
    return world.with_plan(organizations=replace(world.plan.organizations, then=then, **changes))


@pytest.fixture
def world(database: Database) -> World:
    """Its organizations have other names than at Clerk, and one is missing."""
    made = worlds.handmade(database)
    worlds.mirror_organizations(database, ["org_new"])
    return with_then(made, "follow")


def tell(database: Database, type_: str, org_id: str, at: float = 0.0, **content: object) -> None:
    now = time.time() + at
    with database.connect(APP) as app:
        record(app, type_, organization(org_id, updated_at=int(now * 1000), **content), now)


def names(database: Database) -> list[str]:
    with database.connect(SUPERUSER) as superuser:
        return rows(superuser, NAMES)


def test_it_is_proposed_with_the_columns_that_could_be_written_and_left_unless_somebody_decides(
    database: Database,
) -> None:
    worlds.load(database, "handmade")
    with database.connect(OWNER) as owner:
        run(
            owner,
            'alter table organizations add "imageUrl" text, add slug varchar(50), add deleted_at timestamptz',
            "alter table organizations add updated_at timestamptz not null, add created_at timestamptz default now()",
        )
    plan, why = ownership.propose(schema_of(database), Rows())
    assert plan.organizations is not None
    assert plan.organizations.then == "leave"
    assert plan.organizations.columns == {
        "name": "name",
        "slug": "slug",
        "image_url": '"imageUrl"',
        "updated_at": "updated_at",
        "deleted_at": "deleted_at",
    }
    text = config.write(plan, why)
    assert 'then = "leave"\n' in text
    assert config.parse(text) == plan


def test_what_following_would_change_is_told_before(world: World) -> None:
    with world.database.connect(OWNER) as owner:
        told = drift.find(owner, world.plan, schema_of(world.database))
    assert told == [
        'public.organizations: org_one is called "One", and "Name of org_one" at Clerk: it will be changed.',
        'public.organizations: org_two is called "Two", and "Name of org_two" at Clerk: it will be changed.',
        "public.organizations: org_new is missing: it will be added.",
    ]


def test_from_constrain_on_the_table_follows_and_goes_on_after_contract(world: World) -> None:
    database = world.database
    for number, phase in enumerate(PHASES):
        world.apply(phase)
        tell(database, "organization.updated", "org_one", number, name=f"Renamed {number}")
        followed = PHASES.index(phase) >= PHASES.index("constrain")
        assert (f"org_one Renamed {number}" in names(database)) == followed, phase
        assert ("org_new Name of org_new" in names(database)) == followed
        assert [each for each in world.findings(still=False) if each[0] == "drift"] == []
    tell(database, "organization.created", "org_late", 10)
    assert "org_late Name of org_late" in names(database)
    with database.connect(OWNER) as owner:
        assert {code for code, *_ in findings(owner)} <= {"TC10", "TC12"}


def test_who_asks_meanwhile_finds_the_row_as_soon_as_the_events_transaction_commits(world: World) -> None:
    """The app's own handler of webhooks may go with the app that sets a tenant."""
    database = world.database
    world.apply("isolate")
    with database.connect(APP) as app:
        with app.transaction():
            record(app, "organization.created", organization("org_late", updated_at=1), time.time())
            assert "org_late Name of org_late" not in names(database)
        assert "org_late Name of org_late" in names(database)
        enter(app, "org_late")
        run(app, "insert into invoices (organization_id, total) select id, 5 from organizations")
        run(app, "commit")


def enter(app: Connection, org_id: str) -> None:
    run(app, "begin")
    read(app, "select tenantry.set_tenant_by_id_v1((tenantry.find_tenant(%s)).id, 'a test')", org_id)


def test_the_apps_own_handler_may_go_on_beside_it(world: World) -> None:
    database = world.database
    world.apply("constrain")
    tell(database, "organization.created", "org_late")
    with database.connect(APP) as app:
        run(
            app,
            "insert into organizations (clerk_org_id, name) values ('org_late', 'By hand')"
            " on conflict (clerk_org_id) do update set name = excluded.name",
            "insert into organizations (clerk_org_id, name) values ('org_early', 'Early')",
        )
    tell(database, "organization.created", "org_early")
    assert [name for name in names(database) if "arly" in name or "late" in name] == [
        "org_early Name of org_early",
        "org_late By hand",
    ]


@pytest.mark.parametrize("phase", ["constrain", "isolate"])
def test_undone_nothing_follows_any_more_and_the_rest_is_as_it_was(database: Database, phase: Phase) -> None:
    world = with_then(worlds.handmade(database), "follow")
    with database.connect(OWNER) as owner:
        run(owner, "update organizations set name = 'Name of ' || clerk_org_id")
    before = state(database)
    world.apply(phase)
    world.undo()
    assert state(database) == before
    tell(database, "organization.updated", "org_one", name="Renamed")
    assert names(database) == RIGHT


def test_what_undoing_leaves_in_the_table_is_told(world: World) -> None:
    def kept(first: Phase) -> list[str]:
        with world.database.connect(OWNER) as owner:
            return move.list_kept(owner, first)

    assert kept("expand") == []
    world.apply("backfill")
    assert kept("expand") == []
    world.apply("isolate")
    assert kept("isolate") == []  # it goes on following
    told = "public.organizations: it follows the mirror no more. What was copied into it meanwhile stays: "
    assert [line.startswith(told) for line in kept("constrain")] == [True]
    command = [sys.executable, "-m", "tenantry", "adopt", "undo"]
    environment = {**os.environ, "DATABASE_URL": world.database.dsn(OWNER)}
    undone = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (undone.returncode, undone.stderr.startswith(told)) == (0, True), undone.stderr
    assert names(world.database) == ["org_new Name of org_new", *RIGHT]
    assert kept("expand") == []


def test_what_the_table_cannot_take_is_told_before_anything_is_changed(world: World, tmp_path: Path) -> None:
    (tmp_path / "organizations.csv").write_text("1,org_one\n2,org_two\n")
    with world.database.connect(OWNER) as owner:
        run(
            owner,
            "alter table organizations add plan text not null default ''",
            "alter table organizations alter plan drop default",
        )
    with pytest.raises(AdoptionRefused, match="plan may not be null"):
        world.apply()
    with pytest.raises(AdoptionRefused, match="no column nothing"):
        with_then(world, "follow", columns={"name": "nothing"}).apply()
    with pytest.raises(AdoptionRefused, match="needs clerk_id"):
        with_then(world, "follow", clerk_id="", csv=str(tmp_path / "organizations.csv")).apply()


def test_what_it_does_not_copy_is_found_by_verify(world: World) -> None:
    world.apply("constrain")
    with world.database.connect(OWNER) as owner:
        run(owner, "update organizations set name = 'By hand' where clerk_org_id = 'org_one'")
    [(kind, table, told)] = [each for each in world.findings(still=False) if each[0] == "drift"]
    assert (kind, table) == ("drift", "public.organizations")
    assert told == 'public.organizations: org_one is called "By hand", and "Name of org_one" at Clerk.'


def test_a_script_for_psql_has_it_follow_as_the_command_does(world: World) -> None:
    database = world.database
    follow_script(database, write(world), to="constrain")
    assert names(database) == ["org_new Name of org_new", *RIGHT]
    tell(database, "organization.updated", "org_one", name="Renamed")
    assert "org_one Renamed" in names(database)
    follow_script(database, write_undo(world))
    tell(database, "organization.updated", "org_one", 1, name="Not any more")
    assert "org_one Renamed" in names(database)


# --- retired ----------------------------------------------------------------------------------------------------------


def test_a_table_that_others_refer_to_cannot_be_retired(world: World) -> None:
    with world.database.connect(OWNER) as owner:
        run(owner, "create view called as select name from organizations")
    with pytest.raises(AdoptionRefused) as caught:
        with_then(world, "retire").apply()
    assert "public.invoices refers to it (invoices_organization_id_fkey)" in str(caught.value)
    assert "the view public.called reads it" in str(caught.value)


def test_a_table_that_nobody_reads_is_out_of_reach_of_tenants_after_contract(world: World) -> None:
    with world.database.connect(OWNER) as owner:
        run(owner, "drop table invoice_lines, invoices")
    plan, _ = ownership.propose(schema_of(world.database), Rows())
    world = with_then(World(world.database, plan), "retire").with_plan(Decision("public.plans", "shared", mode="read"))
    world.apply("isolate")
    with world.database.connect(APP) as app:
        enter(app, "org_one")
        assert rows(app, NAMES) == ["org_one One"]
        run(app, "rollback")
        with world.database.connect(OWNER) as owner:
            run(owner, "create view called as select name from organizations")
            with pytest.raises(AdoptionRefused, match="cannot be retired: 1 foreign keys and views lead to it"):
                world.apply("contract")
            run(owner, "drop view called")
        world.apply("contract")
        enter(app, "org_one")
        with refused("42501"):
            run(app, NAMES)
        run(app, "rollback")
    assert names(world.database) == ["org_one One", "org_two Two"]
    assert world.findings(still=False) == []
