"""`/v1/me/organization_...`: the person's organizations, and those they are invited or suggested to join."""

from __future__ import annotations

from typing import Any

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.frontend_api import invitations, listing, memberships
from tenantry.emulator.frontend_api.call import Call
from tenantry.emulator.frontend_api.render import organizations as render
from tenantry.emulator.records import Invitation, Suggestion, User
from tenantry.emulator.render import invitation_status

Json = dict[str, Any]

_SUGGESTED = ("pending", "accepted", "completed")


def list_memberships(call: Call) -> Json | list[Json]:
    return memberships.paged(call, call.store.state.memberships_of_user(_user(call).id))


def leave(call: Call) -> Json:
    """ClerkError when nobody would be left to manage the members."""
    user = _user(call)
    membership = call.store.state.membership(call.path["organization_id"], user.id)
    if membership is None:
        message = "Given organization not found, or you don't have permission to access the organization."
        raise ClerkError(404, "organization_not_found_or_unauthorized", message)
    call.store.memberships.check_not_last(membership)
    call.store.memberships.delete(membership)
    return render.deleted("organization_membership", membership.id)


def list_invitations(call: Call) -> Json:
    """Those to the person's verified addresses."""
    user, wanted, now = _user(call), listing.statuses(call, invitations.STATUSES), call.store.clock()
    found = [each for each in call.store.state.invitations_to(user) if invitation_status(each, now) in wanted]
    open_ones = [each for each in found if each.status != "pending" or not _belongs(call, user, each)]
    return listing.page(call, open_ones, lambda each: _show(call, each))


def accept_invitation(call: Call) -> Json:
    user, id = _user(call), call.path["invitation_id"]
    invitation = next((each for each in call.store.state.invitations_to(user) if each.id == id), None)
    if invitation is None:
        raise ClerkError(404, "organization_invitation_not_found", "No invitation to you was found with this id.")
    invitations.check_pending(call, invitation)
    call.store.invitations.accept(invitation, user.id)
    return _show(call, call.store.state.invitations[id])


def list_suggestions(call: Call) -> Json:
    user, wanted = _user(call), listing.statuses(call, _SUGGESTED)
    found = [each for each in call.store.state.suggestions_to(user.id) if each.status in wanted]
    return listing.page(call, found, lambda each: render.suggestion(call.store.state, each))


def accept_suggestion(call: Call) -> Json:
    suggestion = call.store.membership_requests.get_suggestion(_user(call).id, call.path["suggestion_id"])
    return render.suggestion(call.store.state, call.store.membership_requests.ask(suggestion))


def get_creation_defaults(call: Call) -> Json:
    """None: the setting that would suggest a name is off."""
    _user(call)
    return {"form": None, "advisory": None}


def _user(call: Call) -> User:
    user = call.user
    call.store.organizations.check_enabled()
    return user


def _belongs(call: Call, user: User, offered: Invitation | Suggestion) -> bool:
    return call.store.state.membership(offered.organization_id, user.id) is not None


def _show(call: Call, invitation: Invitation) -> Json:
    return render.invitation(call.store.state, invitation, now=call.store.clock())
