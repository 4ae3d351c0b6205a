"""`/organizations`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenantry.emulator import errors, render
from tenantry.emulator.backend_api.call import METADATA_MOVED, Call
from tenantry.emulator.backend_api.listing import Keys, ordered, page
from tenantry.emulator.params import Body
from tenantry.emulator.ratelimit import ONE_OBJECT
from tenantry.emulator.records import Organization

Json = dict[str, Any]

_METADATA = ("public_metadata", "private_metadata")


def list_organizations(call: Call) -> Json:
    state = call.store.state
    orders: Keys[Organization] = {
        "created_at": lambda each: each.created_at,
        "name": lambda each: each.name,
        "members_count": lambda each: len(state.members.get(each.id, {})),
    }
    matches = _build_filter(call)
    found = ordered(call, [each for each in state.organizations.values() if matches(each)], orders)
    return page(call, found, _shower(call))


def create(call: Call) -> Json:
    body = call.body
    name = body.need("name")
    _check_role_set(body)
    organization = call.store.organizations.create(
        name,
        created_by=body.text("created_by"),
        slug=body.text("slug") or None,
        max_allowed_memberships=body.integer("max_allowed_memberships", 0),
        public_metadata=body.mapping("public_metadata"),
        private_metadata=body.mapping("private_metadata"),
        created_at=body.moment("created_at"),
    )
    return render.organization(call.store.state, organization)


def get(call: Call) -> Json:
    return _shower(call)(call.store.organizations.get(call.path["organization_id"]))


def update(call: Call) -> Json:
    """Metadata replaces what was there, for callers of an API version that still takes it here."""
    body = call.body
    organization = _limited(call)
    fields = ("name", "slug", "max_allowed_memberships", "admin_delete_enabled", "created_at", "role_set_key")
    body.only(*fields, *(_METADATA if call.version < METADATA_MOVED else ()))
    _check_role_set(body)
    found: Json = {
        "name": body.text("name"),
        "slug": body.text("slug"),
        "max_allowed_memberships": body.integer("max_allowed_memberships", 0),
        "admin_delete_enabled": body.flag("admin_delete_enabled"),
        "created_at": body.moment("created_at"),
    }
    changes = {name: value for name, value in found.items() if value is not None}
    if metadata := body.metadata(*_METADATA):
        organization = call.store.organizations.replace_metadata(organization.id, metadata)
    if changes:
        organization = call.store.organizations.update(organization.id, changes)
    return render.organization(call.store.state, organization)


def delete(call: Call) -> Json:
    return render.deleted(call.store.organizations.delete(call.path["organization_id"]))


def merge_metadata(call: Call) -> Json:
    organization = call.store.organizations.merge_metadata(_limited(call).id, _metadata(call))
    return render.organization(call.store.state, organization)


def replace_metadata(call: Call) -> Json:
    organization = call.store.organizations.replace_metadata(_limited(call).id, _metadata(call))
    return render.organization(call.store.state, organization)


def _limited(call: Call) -> Organization:
    organization = call.store.organizations.get(call.path["organization_id"])
    call.limit(ONE_OBJECT, organization.id)
    return organization


def _metadata(call: Call) -> dict[str, Json]:
    call.body.only(*_METADATA)
    return call.body.metadata(*_METADATA)


def _shower(call: Call) -> Callable[[Organization], Json]:
    counts = bool(call.query.flag("include_members_count"))
    elevated = bool(call.query.flag("include_missing_member_with_elevated_permissions"))
    return lambda each: render.organization(call.store.state, each, counts=counts, elevated=elevated)


def _build_filter(call: Call) -> Callable[[Organization], bool]:
    ids, users = call.query.selection("organization_id"), call.query.selection("user_id")
    query = (call.query.text("query") or "").lower()
    members = call.store.state.members

    def matches(each: Organization) -> bool:
        if not ids.holds(each.id) or not (users.is_empty or users.holds(*members.get(each.id, {}))):
            return False
        return not query or each.id.lower() == query or query in each.name.lower() or query in (each.slug or "")

    return matches


def _check_role_set(body: Body) -> None:
    if body.text("role_set_key") not in (None, render.ROLE_SET_KEY):
        raise errors.invalid("role_set_key", f"must be {render.ROLE_SET_KEY}: the emulator has one role set")
