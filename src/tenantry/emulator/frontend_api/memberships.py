"""`/v1/organizations/{id}/memberships`: the members, as they see and manage each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.frontend_api import listing
from tenantry.emulator.frontend_api.call import Call
from tenantry.emulator.frontend_api.organizations import membership_of, organization_of
from tenantry.emulator.frontend_api.render import organizations as render
from tenantry.emulator.records import Membership

Json = dict[str, Any]

MANAGE, READ = "org:sys_memberships:manage", "org:sys_memberships:read"


def list_memberships(call: Call) -> Json | list[Json]:
    membership = membership_of(call, READ, MANAGE)
    matches = _build_filter(call)
    found = [each for each in call.store.state.memberships_of(membership.organization_id) if matches(each)]
    return paged(call, found)


def create(call: Call) -> Json:
    call.form.only("user_id", "role")
    organization = organization_of(call, membership_of(call, MANAGE))
    user_id, role = call.form.need("user_id"), call.store.roles.find(call.form.need("role"))
    return _show(call, call.store.memberships.create(organization, user_id, role))


def update(call: Call) -> Json:
    call.form.only("role")
    membership = _get(call)
    role = call.store.roles.find(call.form.need("role"))
    if not any(held.key == MANAGE for held in call.store.state.permissions_of(role)):
        call.store.memberships.check_not_last(membership)
    return _show(call, call.store.memberships.change_role(membership, role))


def delete(call: Call) -> Json:
    """The membership as it was."""
    membership = _get(call)
    call.store.memberships.check_not_last(membership)
    shown = _show(call, membership)
    call.store.memberships.delete(membership)
    return shown


def paged(call: Call, memberships: list[Membership]) -> Json | list[Json]:
    """A page, or everything to who did not ask for pages, as older SDKs do not."""
    if call.query.flag("paginated"):
        return listing.page(call, memberships, lambda each: _show(call, each))
    return [_show(call, each) for each in memberships[::-1]]


def _get(call: Call) -> Membership:
    organization_id = membership_of(call, MANAGE).organization_id
    return call.store.memberships.get(organization_id, call.path["user_id"])


def _build_filter(call: Call) -> Callable[[Membership], bool]:
    state = call.store.state
    query, roles = (call.query.text("query") or "").strip().lower(), set(call.query.texts("role"))
    if not roles <= {*state.role_by_key}:
        raise errors.invalid("role", f"must be one of {', '.join(state.role_by_key)}")

    def matches(each: Membership) -> bool:
        user = state.users[each.user_id]
        texts = (user.id, user.identifier, user.username, user.first_name, user.last_name)
        found = any(query in text.lower() for text in texts if text)
        return found and (not roles or state.roles[each.role_id].key in roles)

    return matches


def _show(call: Call, membership: Membership) -> Json:
    return render.membership(call.store.state, membership)
