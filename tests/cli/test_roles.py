"""`tenantry roles` brings tenantry.toml to the database, where SQL reads it, and names what the file does not know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from databases import APP, Database
from tenantry.mirror import encode

FILE = """
[roles."org:member"]
permissions = ["documents:read"]
[roles."org:admin"]
inherits = ["org:member"]
permissions = ["documents:*"]
"""


@pytest.fixture
def roles_file(tmp_path: Path) -> Path:
    file = tmp_path / "tenantry.toml"
    file.write_text(FILE)
    return file


def tenantry_roles(database: Database, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tenantry", "roles", *arguments, "--database-url", database.dsn(APP)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)


def permitted(database: Database, role: str, permission: str) -> bool:
    identity = {"user_id": "user_1", "org_id": "org_1", "role": role, "issued_at": 1, "expires_at": 2**35}
    with database.connect(APP) as connection:
        connection.execute("select tenantry.provision_v1(%s::jsonb)", [encode(identity)])
    with database.connect(APP, autocommit=False) as connection:
        connection.execute("select tenantry.set_tenant_v1(%s::jsonb)", [encode(identity)])
        row = connection.execute("select tenantry.can(%s)", [permission]).fetchone()
    return row == (True,)


def test_apply_writes_the_file_to_the_database(database: Database, roles_file: Path) -> None:
    answer = tenantry_roles(database, "apply", folder=roles_file.parent)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert permitted(database, "org:admin", "documents:delete")
    assert permitted(database, "org:member", "documents:read")
    assert not permitted(database, "org:member", "documents:delete")
    assert not permitted(database, "org:stranger", "documents:read")


def test_apply_again_changes_nothing(database: Database, roles_file: Path) -> None:
    tenantry_roles(database, "apply", folder=roles_file.parent)
    again = tenantry_roles(database, "apply", "--json", folder=roles_file.parent)
    assert json.loads(again.stdout) == {"added": 0, "removed": 0, "unknown_roles": []}


def test_show_tells_what_apply_would_change(database: Database, roles_file: Path) -> None:
    before = tenantry_roles(database, "show", folder=roles_file.parent)
    assert before.returncode == 1
    assert "+ documents:*" in before.stdout
    assert "- *" in before.stdout  # the default map's
    assert "tenantry roles apply" in before.stdout
    tenantry_roles(database, "apply", folder=roles_file.parent)
    after = tenantry_roles(database, "show", "--json", folder=roles_file.parent)
    assert after.returncode == 0
    assert json.loads(after.stdout)["roles"]["org:admin"]["permissions"] == ["documents:*", "documents:read"]


def test_a_role_the_file_does_not_know_is_reported(database: Database, roles_file: Path) -> None:
    role = {"id": "role_1", "key": "org:editor", "name": "Editor", "permissions": [], "updated_at": 1786000000000}
    event = {"type": "role.created", "object": "event", "timestamp": 1786000000000, "data": role}
    with database.connect(APP) as connection:
        connection.execute("select tenantry.record_event_v1('msg_1', %s::jsonb)", [encode(event)])
    applied = tenantry_roles(database, "apply", folder=roles_file.parent)
    assert "org:editor" in applied.stdout
    shown = tenantry_roles(database, "show", folder=roles_file.parent)
    assert shown.returncode == 1
    assert "org:editor\n  not in the file: it permits nothing" in shown.stdout


def test_a_file_with_a_mistake_is_a_sentence(database: Database, roles_file: Path) -> None:
    roles_file.write_text('[roles."org:admin"]\npermission = ["documents:*"]\n')
    answer = tenantry_roles(database, "apply", folder=roles_file.parent)
    assert answer.returncode == 2
    assert "tenantry.toml" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_without_a_file_nothing_is_written(database: Database, tmp_path: Path) -> None:
    answer = tenantry_roles(database, "apply", folder=tmp_path)
    assert answer.returncode == 2
    assert "There is no tenantry.toml here." in answer.stderr
    assert permitted(database, "org:admin", "anything:at:all"), "the map of before stands"
