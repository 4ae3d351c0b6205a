"""What a member may do: the permissions of the token, of the mirrored role, and of the app's own map."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from databases import APP, SUPERUSER, Server
from sql.tenants import (
    Connection,
    World,
    identity,
    membership,
    open_world,
    read,
    record,
    refused,
    run,
    set_tenant,
    undone,
)
from tenantry import roles

VECTORS = Path(__file__).parents[1] / "vectors" / "can.json"
THEN = time.time() - 20  # when the mirror learnt of what follows


@pytest.fixture(scope="module")
def world(server: Server, template: str) -> Iterator[World]:
    with open_world(server, template) as made:
        yield made


@pytest.fixture
def app(world: World) -> Iterator[Connection]:
    """A connection in a transaction that leaves nothing behind."""
    with world.connect() as connection, undone(connection):
        yield connection


def role(key: str, *permissions: str, id_: str = "role_1", **content: object) -> dict[str, Any]:
    held = [{"id": f"perm_{n}", "object": "permission", "key": permission} for n, permission in enumerate(permissions)]
    return {"id": id_, "object": "role", "key": key, "name": key, "permissions": held, "updated_at": 1, **content}


def permission(key: str, id_: str) -> dict[str, Any]:
    return {"id": id_, "object": "permission", "key": key, "name": key, "type": "user", "updated_at": 1}


def promote(app: Connection, to: str = "org:editor", **content: Any) -> None:
    """A change of role that the mirror learnt of after the token was minted."""
    data = membership("orgmem_alpha", "org_alpha", "user_alpha", to, updated_at=2, **content)
    record(app, "organizationMembership.updated", data, THEN)


def older(world: World, **changes: object) -> dict[str, Any]:
    return identity(world.a, issued_at=int(THEN) - 5, **changes)


def test_the_tokens_permissions_hold_while_its_role_does(world: World, app: Connection) -> None:
    record(app, "role.created", role("org:member", "org:documents:delete"), THEN - 60)
    context = set_tenant(app, older(world, permissions=["org:documents:read"]))
    assert (context["role"], context["role_source"]) == ("org:member", "token")
    assert context["permissions"] == ["org:documents:read"]


def test_a_newer_definition_of_the_role_beats_the_tokens_permissions(world: World, app: Connection) -> None:
    record(app, "role.updated", role("org:member", "org:documents:read"), THEN)
    context = set_tenant(app, older(world, permissions=["org:documents:read", "org:documents:delete"]))
    assert (context["role"], context["role_source"]) == ("org:member", "mirror")
    assert context["permissions"] == ["org:documents:read"]


def test_an_expired_tokens_permissions_count_for_nothing(world: World, app: Connection) -> None:
    record(app, "role.created", role("org:member", "org:documents:read"), THEN - 600)
    expired = older(world, permissions=["org:documents:delete"]) | {"expires_at": int(THEN) - 1}
    assert set_tenant(app, expired)["permissions"] == ["org:documents:read"]


def test_a_newer_role_of_the_mirror_brings_that_roles_permissions(world: World, app: Connection) -> None:
    record(app, "role.created", role("org:editor", "org:documents:edit", "org:billing:read"), THEN)
    promote(app)
    context = set_tenant(app, older(world, permissions=["org:documents:read"]))
    assert (context["role"], context["role_source"]) == ("org:editor", "mirror")
    assert context["permissions"] == ["org:billing:read", "org:documents:edit"]


def test_a_newer_roles_permissions_are_limited_to_the_tokens_features(world: World, app: Connection) -> None:
    record(app, "role.created", role("org:editor", "org:documents:edit", "org:billing:read"), THEN)
    promote(app)
    assert set_tenant(app, older(world, features=["documents"]))["permissions"] == ["org:documents:edit"]


def test_a_token_without_features_of_its_plan_leaves_nothing_of_a_newer_role(world: World, app: Connection) -> None:
    record(app, "role.created", role("org:editor", "org:documents:edit"), THEN)
    promote(app)
    assert set_tenant(app, older(world, features=[]))["permissions"] == []


@pytest.mark.parametrize("changes", [{}, {"features": ["documents"]}, {"permissions": ["org:documents:read"]}])
def test_system_permissions_come_from_the_mirrored_role_whoever_wins(
    world: World, app: Connection, changes: dict[str, Any]
) -> None:
    record(app, "role.created", role("org:member", "org:sys_memberships:read", "org:documents:edit"), THEN)
    context = set_tenant(app, identity(world.a, **changes))
    assert context["system_permissions"] == ["org:sys_memberships:read"]
    assert read(app, "select tenantry.has_permission('org:sys_memberships:read')")
    assert not read(app, "select tenantry.has_permission('org:documents:edit')")


def test_a_deleted_permission_permits_nothing_though_its_role_still_names_it(world: World, app: Connection) -> None:
    record(app, "permission.created", permission("org:documents:edit", "perm_edit"), THEN)
    record(app, "role.created", role("org:editor", "org:documents:edit", "org:documents:read"), THEN)
    promote(app)
    record(app, "permission.deleted", {"id": "perm_edit", "deleted": True}, THEN)
    assert set_tenant(app, older(world))["permissions"] == ["org:documents:read"]


def test_a_permission_made_again_under_its_key_permits_again(world: World, app: Connection) -> None:
    record(app, "permission.created", permission("org:documents:edit", "perm_edit"), THEN)
    record(app, "permission.deleted", {"id": "perm_edit", "deleted": True}, THEN)
    record(app, "permission.created", permission("org:documents:edit", "perm_again"), THEN)
    record(app, "role.created", role("org:editor", "org:documents:edit"), THEN)
    promote(app)
    assert set_tenant(app, older(world))["permissions"] == ["org:documents:edit"]


def test_a_role_the_mirror_has_not_seen_permits_what_the_membership_showed(world: World, app: Connection) -> None:
    promote(app, permissions=["org:documents:edit", "org:sys_domains:read"])
    context = set_tenant(app, older(world))
    assert context["permissions"] == ["org:documents:edit"]
    assert context["system_permissions"] == ["org:sys_domains:read"]


def test_a_role_that_was_deleted_permits_what_the_membership_showed(world: World, app: Connection) -> None:
    record(app, "role.created", role("org:editor", "org:documents:edit"), THEN)
    record(app, "role.deleted", {"id": "role_1", "deleted": True}, THEN)
    promote(app, permissions=["org:documents:read"])
    assert set_tenant(app, older(world))["permissions"] == ["org:documents:read"]


def test_a_membership_says_nothing_about_another_role(world: World, app: Connection) -> None:
    promote(app, to="org:editor", permissions=["org:sys_domains:manage"])
    context = set_tenant(app, identity(world.a, role="admin"))  # newer than the mirror
    assert (context["role"], context["system_permissions"]) == ("org:admin", [])


@pytest.mark.attack(75)
@pytest.mark.parametrize("spelling", ["admin", "org:admin", "org:org:admin"])
def test_a_role_is_one_however_often_it_is_prefixed(world: World, app: Connection, spelling: str) -> None:
    context = set_tenant(app, identity(world.a, role=spelling))
    assert (context["role"], context["app_permissions"]) == ("org:admin", ["*"])
    assert read(app, "select tenantry.has_role('admin') and tenantry.can('anything:at:all')")


def test_the_apps_map_is_that_of_the_role_that_acts(world: World, app: Connection) -> None:
    run(app, """select tenantry.set_role_permissions_v1('{"editor": ["documents:*"], "org:member": ["*:read"]}')""")
    promote(app)
    set_tenant(app, older(world))
    assert read(app, "select tenantry.can('documents:edit') and not tenantry.can('folders:read')")


def test_a_role_the_map_does_not_name_may_nothing(world: World, app: Connection) -> None:
    set_tenant(app, identity(world.a, role="org:auditor"))
    assert not read(app, "select tenantry.can('documents:read')")


@pytest.mark.parametrize("asked", ["null", "''", "'*'", "'Documents:Read'", "'documents:'", "'a' || chr(10)"])
def test_what_is_no_permission_is_permitted_to_nobody(world: World, app: Connection, asked: str) -> None:
    set_tenant(app, identity(world.a, role="org:admin"))
    assert read(app, f"select tenantry.can({asked})") is False
    assert read(app, f"select tenantry.has_permission({asked})") is False


def test_a_patterns_odd_characters_are_characters(world: World, app: Connection) -> None:
    run(app, """select tenantry.set_role_permissions_v1('{"org:member": ["a.c:*"]}')""")
    set_tenant(app, identity(world.a))
    assert read(app, "select tenantry.can('abc:read')") is False
    assert read(app, "select tenantry.can('a.c:read')") is True


def vectors() -> list[tuple[str, str, bool]]:
    return [(pattern, asked, expected) for pattern, asked, expected in json.loads(VECTORS.read_text())]


def may(app: Connection, world: World, pattern: str, asked: str) -> tuple[bool, bool]:
    """What permission_matches says, and what can() says to a member whose role holds only this pattern."""
    matches = "select tenantry.permission_matches(%s, %s)"
    with undone(app):
        app.execute("select tenantry.set_role_permissions_v1(%s::jsonb)", [json.dumps({"org:member": [pattern]})])
        set_tenant(app, identity(world.a))
        return read(app, matches, pattern, asked), read(app, "select tenantry.can(%s)", asked)


def test_the_database_reads_patterns_as_the_vectors_say(world: World, app: Connection) -> None:
    wrong = [
        (pattern, asked, expected)
        for pattern, asked, expected in vectors()
        if may(app, world, pattern, asked) != (expected, expected)
    ]
    assert wrong == []


@pytest.mark.parametrize("pattern", ["(*", "do[a-z]+s:read", "documents:read,*"])
def test_a_map_with_what_is_no_pattern_is_refused(app: Connection, pattern: str) -> None:
    with refused("TY010", "is no permission"), app.transaction():
        app.execute("select tenantry.set_role_permissions_v1(%s::jsonb)", [json.dumps({"org:member": [pattern]})])


SEGMENTS = st.sampled_from(["a", "b", "a.b", "a-b", "a_b", "*", "", "A", "(", "[a", "\\"])
TEXTS = st.lists(SEGMENTS, min_size=1, max_size=4).map(":".join)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pattern=TEXTS, asked=TEXTS)
def test_the_database_and_python_read_patterns_alike(app: Connection, pattern: str, asked: str) -> None:
    with undone(app):
        assert read(app, "select tenantry.permission_matches(%s, %s)", pattern, asked) == roles.matches(pattern, asked)


def test_a_tenant_may_not_change_the_map(world: World, app: Connection) -> None:
    set_tenant(app, identity(world.a))
    with refused("42501"), app.transaction():
        run(app, "insert into tenantry.role_permissions values ('org:member', '*')")


@pytest.mark.parametrize("statement", ["truncate tenantry.role_permissions", "delete from tenantry.role_permissions"])
def test_what_roles_permit_follows_the_tables_it_is_made_of(world: World, statement: str) -> None:
    with world.connect(SUPERUSER) as superuser, undone(superuser):
        run(superuser, statement)
        run(superuser, f"set session authorization {APP}")
        assert set_tenant(superuser, identity(world.a))["app_permissions"] == []


def test_without_its_trigger_what_roles_permit_would_be_what_it_was(world: World) -> None:
    with world.connect(SUPERUSER) as superuser, undone(superuser):
        run(superuser, "drop trigger refresh_role_grants on tenantry.role_permissions")
        run(superuser, "delete from tenantry.role_permissions", f"set session authorization {APP}")
        assert set_tenant(superuser, identity(world.a))["app_permissions"] == ["*:read"]
