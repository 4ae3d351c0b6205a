"""`/v1/organizations/{id}/invitations`: made, listed and revoked by who manages the members."""

from __future__ import annotations

from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.frontend_api import listing
from tenantry.emulator.frontend_api.call import Call
from tenantry.emulator.frontend_api.memberships import MANAGE
from tenantry.emulator.frontend_api.organizations import membership_of, organization_of
from tenantry.emulator.frontend_api.render import organizations as render
from tenantry.emulator.records import Invitation
from tenantry.emulator.render import invitation_status
from tenantry.emulator.store.invitations import NewInvitation

Json = dict[str, Any]

STATUSES = ("pending", "accepted", "revoked", "expired")
_OTHER_STATUSES = ("invalid", "completed")  # may be asked for; an invitation to an organization has none of them
_MANY = 50


def list_invitations(call: Call) -> Json:
    wanted = listing.statuses(call, (*STATUSES, *_OTHER_STATUSES))
    return listing.page(call, _find(call, wanted), lambda each: _show(call, each))


def list_pending(call: Call) -> list[Json]:
    return [_show(call, each) for each in _find(call, {"pending"})[::-1]]


def create(call: Call) -> Json:
    _check_form(call)
    return _create(call, [call.form.need("email_address")])[0]


def create_many(call: Call) -> list[Json]:
    """All or none."""
    _check_form(call)
    addresses = call.form.texts("email_address")
    if not addresses:
        raise errors.missing("email_address")
    if len(addresses) > _MANY:
        message = f"Parameters exceed the maximum allowed bulk processing size of {_MANY}."
        raise errors.refused("bulk_size_exceeded", message, status=400)
    return _create(call, addresses)


def revoke(call: Call) -> Json:
    organization_id = membership_of(call, MANAGE).organization_id
    invitation = call.store.invitations.get(call.path["invitation_id"], organization_id)
    check_pending(call, invitation)
    return _show(call, call.store.invitations.revoke(invitation, None))


def check_pending(call: Call, invitation: Invitation) -> None:
    if invitation_status(invitation, call.store.clock()) != "pending":
        message = "The organization invitation is not in the 'pending' status."
        raise ClerkError(404, "organization_invitation_not_pending", message)


def _check_form(call: Call) -> None:
    """`notify` makes no difference: no messages are sent."""
    call.form.only("email_address", "role", "notify")
    call.form.flag("notify")


def _create(call: Call, addresses: list[str]) -> list[Json]:
    membership = membership_of(call, MANAGE)
    role = call.store.roles.find(call.form.need("role"))
    new = [
        NewInvitation(email_address=address.strip(), role=role, inviter_id=membership.user_id) for address in addresses
    ]
    made = call.store.invitations.create_all(organization_of(call, membership), new)
    return [_show(call, each) for each in made]


def _find(call: Call, wanted: set[str]) -> list[Invitation]:
    """Without those that a domain made."""
    organization_id, now = membership_of(call, MANAGE).organization_id, call.store.clock()
    found = [each for each in call.store.state.invitations_of(organization_id) if each.domain_id is None]
    return [each for each in found if invitation_status(each, now) in wanted]


def _show(call: Call, invitation: Invitation) -> Json:
    return render.invitation(call.store.state, invitation, now=call.store.clock())
