"""`/instance`, its organization settings, and `/jwks`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.backend_api.call import Call
from tenantry.emulator.store.domains import ENROLLMENT_MODES

Json = dict[str, Any]


def get(call: Call) -> Json:
    return {
        "object": "instance",
        "id": call.emulator.instance.id,
        "environment_type": "development",
        "allowed_origins": None,
        "workspace_id": None,
    }


def get_keys(call: Call) -> Json:
    return call.emulator.instance.jwks


def get_organization_settings(call: Call) -> Json:
    settings = call.store.state.settings
    return {
        "object": "organization_settings",
        "enabled": settings.enabled,
        "max_allowed_memberships": settings.max_allowed_memberships,
        "max_allowed_roles": settings.max_allowed_roles,
        "max_role_sets_allowed": 1,
        "max_allowed_domains": settings.max_allowed_domains,
        "max_allowed_permissions": 0,
        "creator_role": settings.creator_role,
        "admin_delete_enabled": settings.admin_delete_enabled,
        "domains_enabled": settings.domains_enabled,
        "slug_disabled": not settings.slugs,
        "domains_enrollment_modes": list(settings.domains_enrollment_modes),
        "domains_default_role": settings.domains_default_role,
        "initial_role_set_key": "role_set:default",
    }


def update_organization_settings(call: Call) -> Json:
    """The body names roles by id, the answer by key, as Clerk does."""
    body = call.body
    flags = ("enabled", "admin_delete_enabled", "domains_enabled", "slug_disabled")
    roles = {"creator_role_id": "creator_role", "domains_default_role_id": "domains_default_role"}
    body.only(*flags, *roles, "max_allowed_memberships", "domains_enrollment_modes")
    changes: Json = {name: value for name in flags if (value := body.flag(name)) is not None}
    if "slug_disabled" in changes:
        changes["slugs"] = not changes.pop("slug_disabled")
    if (limit := body.integer("max_allowed_memberships", 0)) is not None:
        changes["max_allowed_memberships"] = limit
    if (modes := body.texts("domains_enrollment_modes")) is not None:
        changes["domains_enrollment_modes"] = _checked_modes(modes)
    for param, name in roles.items():
        if (role_id := body.text(param)) is not None:
            changes[name] = call.store.roles.get(role_id).key
    call.store.state.put_settings(replace(call.store.state.settings, **changes))
    return get_organization_settings(call)


def _checked_modes(modes: list[str]) -> tuple[str, ...]:
    if not set(modes) <= set(ENROLLMENT_MODES):
        raise errors.invalid("domains_enrollment_modes", f"must be among {', '.join(ENROLLMENT_MODES)}")
    return tuple(modes)
