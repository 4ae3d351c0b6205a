"""`tenantry instance` says which Clerk instance a database mirrors, and binds it to another."""

from __future__ import annotations

import json
import subprocess
import sys

from databases import APP, Database
from tenantry.mirror import encode


def tenantry_instance(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tenantry", "instance", *arguments, "--database-url", database.dsn(APP)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def record(database: Database, instance_id: str) -> str:
    event = {"type": "user.created", "timestamp": 1786000000000, "instance_id": instance_id, "data": {"id": "user_1"}}
    with database.connect(APP) as connection:
        row = connection.execute(
            "select tenantry.record_event_v1(%s, %s::jsonb) ->> 'outcome'", [f"msg_{instance_id}", encode(event)]
        ).fetchone()
    return str(row and row[0])


def test_a_database_without_an_instance_says_so(database: Database) -> None:
    answer = tenantry_instance(database, "show")
    assert answer.returncode == 1
    assert "Not bound yet" in answer.stdout


def test_the_first_event_binds_and_another_instances_is_refused_until_it_is_bound_again(database: Database) -> None:
    assert record(database, "ins_1") == "applied"
    assert record(database, "ins_2") == "refused"
    assert json.loads(tenantry_instance(database, "show", "--json").stdout)["instance_id"] == "ins_1"
    assert tenantry_instance(database, "rebind", "ins_2").returncode == 0
    assert tenantry_instance(database, "show").stdout.startswith("ins_2, since ")
    assert record(database, "ins_2") in ("applied", "stale")


def test_what_is_no_instance_id_is_a_sentence(database: Database) -> None:
    answer = tenantry_instance(database, "rebind", "org_1'; drop schema tenantry")
    assert answer.returncode == 1
    assert "ins_" in answer.stderr
    assert "Traceback" not in answer.stderr
