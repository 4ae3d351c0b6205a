"""`tenantry tenants`: lists, exports and purges, and a purge that is killed goes on where it was."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from databases import APP, OWNER, SUPERUSER, Database, Server
from sql.clerk_objects import deleted
from sql.tenants import World, bypassing, make_documents, make_world, read, record, run
from tenantry.cli import app
from tenantry.errors import ConfigurationError

ROWS = 3000
WAIT_SECONDS = 60


@pytest.fixture
def world(servers: Callable[[int], Server]) -> Iterator[World]:
    """Two organizations with documents, the first of them deleted."""
    from instance import fresh_database

    with fresh_database(servers) as made:
        with made.connect(SUPERUSER) as superuser:
            run(superuser, "drop table documents cascade")
        world = make_world(made)
        make_documents(made, world.a, world.b)
        with made.connect(APP) as connection:
            record(connection, "organization.deleted", deleted("organization", world.a.org_id), time.time() - 60)
        yield world


def tenants(database: Database, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["tenants", *arguments], env={"DATABASE_URL": database.dsn()})


def test_tenants_are_listed_with_their_members_and_their_end(world: World) -> None:
    both = tenants(world.database, "list").stdout.splitlines()
    assert both[0].startswith(f"{world.a.org_id}  {world.a.id}  Name of {world.a.org_id}  0 members  ended ")
    assert both[1] == f"{world.b.org_id}  {world.b.id}  Name of {world.b.org_id}  1 member"
    assert tenants(world.database, "list", "--live").stdout.splitlines() == both[1:]
    [told] = tenants(world.database, "list", "--deleted", "--json").stdout.splitlines()
    assert json.loads(told)["org_id"] == world.a.org_id


def test_a_list_of_nobody_says_so(database: Database) -> None:
    assert tenants(database, "list", "--deleted").stdout == "No such tenant.\n"
    assert tenants(database, "list", "--deleted", "--json").stdout == ""


def test_an_export_says_what_it_wrote(world: World, tmp_path: Path) -> None:
    done = tenants(world.database, "export", world.a.org_id, "--output", str(tmp_path / "acme"))
    assert done.exit_code == 0, done.output
    assert "         1  public.documents\n" in done.stdout
    row = json.loads((tmp_path / "acme" / "public.documents.jsonl").read_text())
    assert (row["title"], row["tenant_id"]) == (world.a.sentinel, world.a.id)
    again = tenants(world.database, "export", world.a.org_id, "--output", str(tmp_path / "acme"))
    assert isinstance(again.exception, ConfigurationError)


def test_a_purge_says_first_what_it_would_do_and_then_does_it(world: World) -> None:
    plan = tenants(world.database, "purge", world.a.org_id)
    assert plan.exit_code == 0, plan.output
    assert "         1  public.documents\n" in plan.stdout
    assert plan.stdout.endswith(f"Next: tenantry tenants purge {world.a.org_id} --confirm {world.a.org_id}\n")
    told = json.loads(tenants(world.database, "purge", world.a.org_id, "--json").stdout)
    assert told["steps"] == [["public.documents"]]
    wrong = tenants(world.database, "purge", world.a.org_id, "--confirm", world.b.org_id)
    assert isinstance(wrong.exception, ConfigurationError)
    with world.connect(SUPERUSER) as superuser:
        assert read(superuser, "select count(*) from documents") == 2
        done = tenants(world.database, "purge", world.a.org_id, "--confirm", world.a.org_id)
        assert done.exit_code == 0, done.output
        assert "is purged" in done.stdout
        assert read(superuser, "select title from documents") == world.b.sentinel
    assert "  purged " in tenants(world.database, "list", "--deleted").stdout


def test_a_live_organization_is_refused(world: World) -> None:
    refused = tenants(world.database, "purge", world.b.org_id, "--confirm", world.b.org_id)
    assert refused.exit_code == 1
    assert "is not deleted" in refused.stderr
    with world.connect(SUPERUSER) as superuser:
        assert read(superuser, "select count(*) from documents") == 2


def test_the_next_step_keeps_the_tables_that_are_left(world: World) -> None:
    with world.connect(OWNER) as owner:
        run(
            owner,
            'create table "my invoices" (id int, tenant uuid references tenantry.tenants)',
            """select tenantry.share_table_v1('"my invoices"', 'none')""",
            f"""insert into "my invoices" values (1, '{world.a.id}')""",
        )
    plan = tenants(world.database, "purge", world.a.org_id, "--leave", '"my invoices"')
    assert plan.exit_code == 0, plan.output
    _, _, command = plan.stdout.partition("Next: tenantry tenants ")
    done = tenants(world.database, *shlex.split(command))
    assert "is purged" in done.stdout
    unknown = tenants(world.database, "purge", world.a.org_id, "--leave", "nosuchtable")
    assert isinstance(unknown.exception, ConfigurationError)
    assert "nosuchtable" in str(unknown.exception)


def test_a_purge_that_is_killed_goes_on_when_run_again(world: World) -> None:
    with world.connect(APP) as connection, bypassing(connection):
        for tenant in (world.a, world.b):
            connection.execute(
                "insert into documents (title, tenant_id) select %s, %s from generate_series(1, %s)",
                [tenant.sentinel, tenant.id, ROWS],
            )
    count = "select count(*) from documents where tenant_id = %s"
    digest = "select md5(string_agg(d::text, '|' order by id)) from documents as d where tenant_id = %s"
    arguments = [
        "tenants",
        "purge",
        world.a.org_id,
        "--confirm",
        world.a.org_id,
        "--database-url",
        world.database.dsn(),
    ]
    with world.connect(SUPERUSER) as superuser:
        others = read(superuser, digest, world.b.id)
        with subprocess.Popen([sys.executable, "-m", "tenantry", *arguments, "--batch", "3"]) as purging:
            deadline = time.monotonic() + WAIT_SECONDS
            while read(superuser, count, world.a.id) > ROWS - 30:
                assert purging.poll() is None, "it ended before it could be killed"
                assert time.monotonic() < deadline
            purging.send_signal(signal.SIGKILL)
            purging.wait(WAIT_SECONDS)
        assert 0 < read(superuser, count, world.a.id) < ROWS
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert read(superuser, count, world.a.id) == 0
        assert read(superuser, digest, world.b.id) == others
