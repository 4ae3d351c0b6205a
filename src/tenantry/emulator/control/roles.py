"""Roles and permissions."""

from __future__ import annotations

from tenantry.emulator import render
from tenantry.emulator.control.call import Call, Json


def list_roles(call: Call) -> Json:
    return {"data": [render.role(call.state, role) for role in call.state.roles.values()]}


def create_role(call: Call) -> Json:
    """`key`, `name`; also `description` and `permissions`, by key or id."""
    call.body.only("key", "name", "description", "permissions")
    key, name, held = call.body.need("key"), call.body.need("name"), _held(call) or []
    return render.role(call.state, call.store.roles.create(name, key, call.body.text("description") or None, held))


def update_role(call: Call) -> Json:
    """What is not given stays; `permissions` are all that the role shall hold."""
    call.body.only("key", "name", "description", "permissions")
    changes = _texts(call)
    if (held := _held(call)) is not None:
        changes["permission_ids"] = held
    return render.role(call.state, call.store.roles.update(_role_id(call), changes))


def delete_role(call: Call) -> Json:
    return render.deleted(call.store.roles.delete(_role_id(call)))


def list_permissions(call: Call) -> Json:
    return {"data": [render.permission(each) for each in call.state.permissions.values()]}


def create_permission(call: Call) -> Json:
    """`key`, `name`; also `description`."""
    call.body.only("key", "name", "description")
    key, name = call.body.need("key"), call.body.need("name")
    return render.permission(call.store.permissions.create(name, key, call.body.text("description") or ""))


def update_permission(call: Call) -> Json:
    call.body.only("key", "name", "description")
    return render.permission(call.store.permissions.update(_permission_id(call), _texts(call)))


def delete_permission(call: Call) -> Json:
    return render.deleted(call.store.permissions.delete(_permission_id(call)))


def _texts(call: Call) -> Json:
    found = {name: call.body.need(name) for name in ("key", "name") if call.body.has(name)}
    return found | ({"description": text} if (text := call.body.text("description")) is not None else {})


def _held(call: Call) -> list[str] | None:
    keys = call.body.texts("permissions")
    return None if keys is None else [call.store.permissions.find(key).id for key in keys]


def _role_id(call: Call) -> str:
    """The path names a role by id or key."""
    return call.state.role_by_key.get(call.path["role"], call.path["role"])


def _permission_id(call: Call) -> str:
    return call.state.permission_by_key.get(call.path["permission"], call.path["permission"])
