"""`/organizations/{id}/invitations` and `/organization_invitations`."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import errors, render
from tenantry.emulator.backend_api.call import Call
from tenantry.emulator.backend_api.listing import Keys, ordered, page
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.params import Body
from tenantry.emulator.ratelimit import INVITATIONS, INVITATIONS_BULK
from tenantry.emulator.records import Invitation
from tenantry.emulator.store.invitations import NewInvitation

Json = dict[str, Any]

_STATUSES = ("pending", "accepted", "revoked", "expired")
_ORDERS: Keys[Invitation] = {
    "created_at": lambda each: each.created_at,
    "email_address": lambda each: each.email_address,
}


def list_invitations(call: Call) -> Json:
    organization = call.store.organizations.get(call.path["organization_id"])
    address = (call.query.text("email_address") or "").lower()
    found = [each for each in _made_by_people(call, organization.id) if _has_status(call, each)]
    found = [each for each in found if not address or each.email_address == address]
    return page(call, ordered(call, found, _ORDERS), lambda each: _show(call, each))


def list_pending(call: Call) -> Json:
    organization = call.store.organizations.get(call.path["organization_id"])
    now = call.store.clock()
    found = _made_by_people(call, organization.id)
    pending = [each for each in found if render.invitation_status(each, now) == "pending"]
    return page(call, ordered(call, pending, _ORDERS), lambda each: _show(call, each))


def list_all(call: Call) -> Json:
    query = (call.query.text("query") or "").lower()
    state, now = call.store.state, call.store.clock()
    found = [each for each in state.invitations.values() if _has_status(call, each) and query in each.email_address]
    return page(
        call,
        ordered(call, found, _ORDERS),
        lambda each: render.invitation_with_organization(state, each, now=now),
    )


def create(call: Call) -> Json:
    call.limit(INVITATIONS, "")
    organization = call.store.organizations.get(call.path["organization_id"])
    return _show(call, call.store.invitations.create(organization, _read(call, call.body)))


def create_many(call: Call) -> Json:
    call.limit(INVITATIONS_BULK, "")
    organization = call.store.organizations.get(call.path["organization_id"])
    new = [_read(call, body) for body in _read_many(call.content)]
    invitations = call.store.invitations.create_all(organization, new)
    return {"data": [_show(call, each) for each in invitations], "total_count": len(invitations)}


def get(call: Call) -> Json:
    return _show(call, _get(call))


def revoke(call: Call) -> Json:
    return _show(call, call.store.invitations.revoke(_get(call), call.body.text("requesting_user_id")))


def _get(call: Call) -> Invitation:
    organization = call.store.organizations.get(call.path["organization_id"])
    return call.store.invitations.get(call.path["invitation_id"], organization.id)


def _read(call: Call, body: Body) -> NewInvitation:
    return NewInvitation(
        email_address=body.need("email_address"),
        role=call.store.roles.find(body.need("role")),
        inviter_id=body.text("inviter_user_id"),
        redirect_url=body.text("redirect_url"),
        expires_in_days=body.integer("expires_in_days", 1, 365) or 30,
        public_metadata=body.mapping("public_metadata") or {},
        private_metadata=body.mapping("private_metadata") or {},
    )


def _read_many(content: Any) -> list[Body]:
    if isinstance(content, list) and 1 <= len(content) <= 10 and all(isinstance(each, dict) for each in content):
        return [Body(each) for each in content]
    raise ClerkError(400, "request_body_invalid", "The request body must be an array of 1 to 10 invitations.")


def _made_by_people(call: Call, organization_id: str) -> list[Invitation]:
    """An organization's lists leave out what its domains made; the instance's list holds that too."""
    return [each for each in call.store.state.invitations_of(organization_id) if each.domain_id is None]


def _has_status(call: Call, invitation: Invitation) -> bool:
    wanted = call.query.texts("status")
    if not set(wanted) <= set(_STATUSES):
        raise errors.invalid("status", f"must be one of {', '.join(_STATUSES)}")
    return not wanted or render.invitation_status(invitation, call.store.clock()) in wanted


def _show(call: Call, invitation: Invitation) -> Json:
    return render.invitation(call.store.state, invitation, now=call.store.clock())
