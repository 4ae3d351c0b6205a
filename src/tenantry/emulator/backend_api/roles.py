"""`/organization_roles` and `/organization_permissions`."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import render
from tenantry.emulator.backend_api.call import Call
from tenantry.emulator.backend_api.listing import Keys, ordered, page
from tenantry.emulator.params import Body
from tenantry.emulator.records import Permission, Role

Json = dict[str, Any]

_ROLE_ORDERS: Keys[Role] = {
    "created_at": lambda each: each.created_at,
    "name": lambda each: each.name,
    "key": lambda each: each.key,
}
_PERMISSION_ORDERS: Keys[Permission] = {
    "created_at": lambda each: each.created_at,
    "name": lambda each: each.name,
    "key": lambda each: each.key,
}


def list_roles(call: Call) -> Json:
    found = [each for each in call.store.state.roles.values() if _matches(call, each)]
    return page(call, ordered(call, found, _ROLE_ORDERS), lambda each: render.role(call.store.state, each))


def create_role(call: Call) -> Json:
    body = call.body
    body.only("name", "key", "description", "permissions", "include_in_initial_role_set")
    name, key = body.need("name"), body.need("key")
    role = call.store.roles.create(name, key, body.text("description"), body.texts("permissions") or [])
    return render.role(call.store.state, role)


def get_role(call: Call) -> Json:
    return render.role(call.store.state, call.store.roles.get(call.path["role_id"]))


def update_role(call: Call) -> Json:
    body = call.body
    changes = _named(body)
    if (permissions := body.texts("permissions")) is not None:
        changes["permission_ids"] = permissions
    return render.role(call.store.state, call.store.roles.update(call.path["role_id"], changes))


def delete_role(call: Call) -> Json:
    return render.deleted(call.store.roles.delete(call.path["role_id"]))


def add_permission(call: Call) -> Json:
    role = call.store.roles.add_permission(call.path["role_id"], call.path["permission_id"])
    return render.role(call.store.state, role)


def remove_permission(call: Call) -> Json:
    role = call.store.roles.remove_permission(call.path["role_id"], call.path["permission_id"])
    return render.role(call.store.state, role)


def list_permissions(call: Call) -> Json:
    found = [each for each in call.store.state.permissions.values() if _matches(call, each)]
    return page(call, ordered(call, found, _PERMISSION_ORDERS), render.permission)


def create_permission(call: Call) -> Json:
    body = call.body
    name, key = body.need("name"), body.need("key")
    return render.permission(call.store.permissions.create(name, key, body.text("description") or ""))


def get_permission(call: Call) -> Json:
    return render.permission(call.store.permissions.get(call.path["permission_id"]))


def update_permission(call: Call) -> Json:
    return render.permission(call.store.permissions.update(call.path["permission_id"], _named(call.body)))


def delete_permission(call: Call) -> Json:
    return render.deleted(call.store.permissions.delete(call.path["permission_id"]))


def _named(body: Body) -> Json:
    found = {name: body.text(name) for name in ("name", "key", "description")}
    return {name: value for name, value in found.items() if value is not None}


def _matches(call: Call, record: Role | Permission) -> bool:
    query = call.query.text("query") or ""
    return record.id == query or query.lower() in record.name.lower() or query.lower() in record.key
