"""`/organizations/{id}/memberships` and `/organization_memberships`."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import render
from tenantry.emulator.backend_api import people
from tenantry.emulator.backend_api.call import Call
from tenantry.emulator.backend_api.listing import Keys, ordered, page
from tenantry.emulator.ratelimit import ONE_OBJECT
from tenantry.emulator.records import Membership

Json = dict[str, Any]

_METADATA = ("public_metadata", "private_metadata")


def list_memberships(call: Call) -> Json:
    state = call.store.state
    organization = call.store.organizations.get(call.path["organization_id"])
    matches, roles = people.build_filter(call), call.query.selection("role")
    found = [
        each
        for each in state.memberships_of(organization.id)
        if roles.holds(state.roles[each.role_id].key) and matches(state.users[each.user_id])
    ]
    return page(call, ordered(call, found, _orders(call)), lambda each: show(call, each))


def list_all(call: Call) -> Json:
    found = ordered(call, call.store.state.memberships.values(), _orders(call))
    return page(call, found, lambda each: show(call, each))


def create(call: Call) -> Json:
    body = call.body
    user_id, role = body.need("user_id"), body.need("role")
    metadata = body.metadata(*_METADATA)
    organization = call.store.organizations.get(call.path["organization_id"])
    membership = call.store.memberships.create(organization, user_id, call.store.roles.find(role), **metadata)
    return show(call, membership)


def update(call: Call) -> Json:
    membership, role = _limited(call), call.store.roles.find(call.body.need("role"))
    return show(call, call.store.memberships.change_role(membership, role))


def delete(call: Call) -> Json:
    """The membership as it was."""
    membership = _get(call)
    shown = show(call, membership)
    call.store.memberships.delete(membership)
    return shown


def merge_metadata(call: Call) -> Json:
    call.body.only(*_METADATA)
    return show(call, call.store.memberships.merge_metadata(_limited(call), call.body.metadata(*_METADATA)))


def show(call: Call, membership: Membership) -> Json:
    return render.membership(call.store.state, membership)


def _get(call: Call) -> Membership:
    organization = call.store.organizations.get(call.path["organization_id"])
    return call.store.memberships.get(organization.id, call.path["user_id"])


def _limited(call: Call) -> Membership:
    membership = _get(call)
    call.limit(ONE_OBJECT, membership.id)
    return membership


def _orders(call: Call) -> Keys[Membership]:
    users = call.store.state.users
    return {
        "created_at": lambda each: each.created_at,
        "email_address": lambda each: users[each.user_id].identifier,
        "first_name": lambda each: users[each.user_id].first_name or "",
        "last_name": lambda each: users[each.user_id].last_name or "",
        "username": lambda each: users[each.user_id].username or "",
        "phone_number": lambda each: "",
    }
