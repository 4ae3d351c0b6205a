"""Roles and permissions of the instance."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from tenantry.emulator import errors, render
from tenantry.emulator.records import Permission, Role
from tenantry.emulator.store.core import Core

_ROLE_KEY = re.compile(r"org:[a-z0-9_]+")
_PERMISSION_KEY = re.compile(r"org:[a-z0-9_]+:[a-z0-9_]+")
_SYSTEM_PERMISSIONS = {
    "org:sys_profile:manage": "Manage organization",
    "org:sys_profile:delete": "Delete organization",
    "org:sys_memberships:read": "Read members",
    "org:sys_memberships:manage": "Manage members",
    "org:sys_domains:read": "Read domains",
    "org:sys_domains:manage": "Manage domains",
    "org:sys_billing:read": "Read billing",
    "org:sys_billing:manage": "Manage billing",
    "org:sys_entconns:manage": "Manage enterprise connections",
}
_DEFAULT_ROLES = {
    "org:admin": ("Admin", "Elevated permissions in the organization", tuple(_SYSTEM_PERMISSIONS)),
    "org:member": ("Member", "Read only", ("org:sys_memberships:read", "org:sys_billing:read")),
}


class Permissions:
    def __init__(self, core: Core) -> None:
        self._core = core

    def get(self, id: str) -> Permission:
        permission = self._core.state.permissions.get(id)
        if permission is None:
            raise errors.not_found("permission", id)
        return permission

    def find(self, key: str) -> Permission:
        return self.get(self._core.state.permission_by_key.get(key, key))

    def create(self, name: str, key: str, description: str = "") -> Permission:
        return self._create(name, self._free_key(key), description, "custom")

    def create_system(self) -> None:
        for key, name in _SYSTEM_PERMISSIONS.items():
            self._create(name, key, "", "system")

    def update(self, id: str, changes: dict[str, Any]) -> Permission:
        permission = self._custom(id)
        if "key" in changes and changes["key"] != permission.key:
            changes = {**changes, "key": self._free_key(changes["key"])}
        return self._core.update(permission, **changes)

    def delete(self, id: str) -> Permission:
        """Roles that hold it lose it."""
        permission = self._custom(id)
        announce = self._core.assumptions.role_updated_on_permission_change
        for role in list(self._core.state.roles.values()):
            if id in role.permission_ids:
                rest = tuple(held for held in role.permission_ids if held != id)
                self._core.update(role, announce=announce, permission_ids=rest)
        self._core.delete(permission)
        return permission

    def _create(self, name: str, key: str, description: str, type: str) -> Permission:
        now = self._core.clock()
        permission = Permission(
            id=self._core.identifiers.new("perm"),
            created_at=now,
            updated_at=now,
            name=_checked_name(name),
            key=key,
            description=description,
            type=type,
        )
        return self._core.create(permission)

    def _custom(self, id: str) -> Permission:
        permission = self.get(id)
        if permission.is_system:
            raise errors.refused("system_permission_immutable", "System permissions cannot be changed.")
        return permission

    def _free_key(self, key: str) -> str:
        if not _PERMISSION_KEY.fullmatch(key):
            raise errors.malformed("key", "of the form org:<feature>:<action>, each of a-z, 0-9 and _")
        if key.startswith("org:sys_"):
            raise errors.invalid("key", "must not begin with org:sys_, which is reserved for system permissions")
        if key in self._core.state.permission_by_key:
            raise errors.taken("key")
        return key


class Roles:
    def __init__(self, core: Core, permissions: Permissions) -> None:
        self._core = core
        self._permissions = permissions

    def get(self, id: str) -> Role:
        role = self._core.state.roles.get(id)
        if role is None:
            raise errors.not_found("role", id)
        return role

    def find(self, key: str) -> Role:
        """By key; how memberships and invitations name a role."""
        id = self._core.state.role_by_key.get(key)
        if id is None:
            message = "There is no organization role with this key."
            raise errors.ClerkError(404, "resource_not_found", message, param="role")
        return self.get(id)

    def create(self, name: str, key: str, description: str | None, permission_ids: list[str]) -> Role:
        limit = self._core.state.settings.max_allowed_roles
        if len(self._core.state.roles) >= limit:
            message = f"You have reached your limit of {limit} organization roles."
            raise errors.refused("organization_role_quota_exceeded", message)
        return self._create(name, self._free_key(key), description, self._known(permission_ids))

    def create_defaults(self) -> None:
        for key, (name, description, held) in _DEFAULT_ROLES.items():
            self._create(name, key, description, tuple(self._permissions.find(each).id for each in held))

    def update(self, id: str, changes: dict[str, Any]) -> Role:
        """A new key follows into the settings that name the role."""
        role = self.get(id)
        if "name" in changes:
            _checked_name(changes["name"])
        if "key" in changes and changes["key"] != role.key:
            changes = {**changes, "key": self._free_key(changes["key"])}
        if "permission_ids" in changes:
            changes = {**changes, "permission_ids": self._known(changes["permission_ids"])}
            self._check_creator_role(role, changes["permission_ids"])
        changed = self._core.update(role, **changes)
        self._follow_key(role.key, changed.key)
        self._touch_holders(changed)
        return changed

    def add_permission(self, id: str, permission_id: str) -> Role:
        role, permission = self.get(id), self._permissions.get(permission_id)
        if permission.id in role.permission_ids:
            message = "The role already holds this permission."
            raise errors.refused("permission_already_assigned", message, status=409)
        return self.update(id, {"permission_ids": [*role.permission_ids, permission.id]})

    def remove_permission(self, id: str, permission_id: str) -> Role:
        role = self.get(id)
        if permission_id not in role.permission_ids:
            raise errors.not_found("permission of this role", permission_id)
        return self.update(id, {"permission_ids": [held for held in role.permission_ids if held != permission_id]})

    def delete(self, id: str) -> Role:
        role = self.get(id)
        self._check_unused(role)
        self._core.delete(role)
        return role

    def _create(self, name: str, key: str, description: str | None, permission_ids: tuple[str, ...]) -> Role:
        now = self._core.clock()
        role = Role(
            id=self._core.identifiers.new("role"),
            created_at=now,
            updated_at=now,
            name=_checked_name(name),
            key=key,
            description=description,
            permission_ids=permission_ids,
        )
        return self._core.create(role)

    def _known(self, permission_ids: list[str]) -> tuple[str, ...]:
        return tuple(self._permissions.get(id).id for id in dict.fromkeys(permission_ids))

    def _free_key(self, key: str) -> str:
        if not _ROLE_KEY.fullmatch(key):
            raise errors.malformed("key", "of the form org:<role>, of a-z, 0-9 and _")
        if key in self._core.state.role_by_key:
            raise errors.taken("key")
        return key

    def _check_creator_role(self, role: Role, permission_ids: tuple[str, ...]) -> None:
        held = {self._core.state.permissions[id].key for id in permission_ids}
        if role.key == self._core.state.settings.creator_role and not held >= render.CREATOR_PERMISSIONS:
            needed = ", ".join(sorted(render.CREATOR_PERMISSIONS - held))
            raise errors.invalid("permissions", f"of the creator role must include {needed}")

    def _check_unused(self, role: Role) -> None:
        """In the order in which the Backend API's text names the reasons."""
        state = self._core.state
        reasons = {
            "it is the default role of organization creators": role.key == state.settings.creator_role,
            "it is the default role of organization domains": role.key == state.settings.domains_default_role,
            "members hold it": any(holders[role.id] > 0 for holders in state.role_holders.values()),
            "invitations offer it": any(each.role_id == role.id for each in state.invitations.values()),
        }
        for reason, holds in reasons.items():
            if holds:
                raise errors.refused("organization_role_in_use", f"The role cannot be deleted: {reason}.")

    def _follow_key(self, old: str, new: str) -> None:
        settings = self._core.state.settings
        names = [name for name in ("creator_role", "domains_default_role") if getattr(settings, name) == old]
        changes: dict[str, Any] = dict.fromkeys(names, new)
        if old != new and changes:
            self._core.state.put_settings(replace(settings, **changes))

    def _touch_holders(self, role: Role) -> None:
        if self._core.assumptions.membership_updated_on_role_change:
            for membership in [each for each in self._core.state.memberships.values() if each.role_id == role.id]:
                self._core.update(membership)


def _checked_name(name: str) -> str:
    if not name.strip():
        raise errors.missing("name")
    return name
