"""Organizations and what belongs to them: members, invitations, domains."""

from __future__ import annotations

from tenantry.emulator import errors, render
from tenantry.emulator.control.call import Call, Json
from tenantry.emulator.frontend_api.render.organizations import membership_request as render_request
from tenantry.emulator.records import Domain, Invitation, Membership, MembershipRequest, Organization, Role
from tenantry.emulator.store.invitations import NewInvitation
from tenantry.emulator.store.users import NewUser


def list_organizations(call: Call) -> Json:
    return {"data": [render.organization(call.state, each) for each in call.state.organizations.values()]}


def get(call: Call) -> Json:
    return render.organization(call.state, _named(call))


def create(call: Call) -> Json:
    """`name`; also `slug`, `max_allowed_memberships` (0 is no limit), and `created_by`, who becomes a member."""
    call.body.only("name", "slug", "created_by", "max_allowed_memberships")
    creator = call.body.text("created_by")
    organization = call.store.organizations.create(
        call.body.need("name"),
        slug=call.body.text("slug") or None,
        created_by=call.store.users.find(creator).id if creator else None,
        max_allowed_memberships=call.body.integer("max_allowed_memberships", 0),
    )
    return render.organization(call.state, organization)


def update(call: Call) -> Json:
    call.body.only("name", "slug", "max_allowed_memberships", "admin_delete_enabled")
    changes = call.given("slug")
    if call.body.has("name"):
        changes["name"] = call.body.need("name")
    if (limit := call.body.integer("max_allowed_memberships", 0)) is not None:
        changes["max_allowed_memberships"] = limit
    if (enabled := call.body.flag("admin_delete_enabled")) is not None:
        changes["admin_delete_enabled"] = enabled
    return render.organization(call.state, call.store.organizations.update(_named(call).id, changes))


def delete(call: Call) -> Json:
    return render.deleted(call.store.organizations.delete(_named(call).id))


def add_member(call: Call) -> Json:
    """`user`, `organization`, and `role` where it is not the usual one."""
    call.body.only("user", "organization", "role")
    user = call.store.users.find(call.body.need("user"))
    return _shown(call, call.store.memberships.create(stated(call), user.id, offered_role(call)))


def change_role(call: Call) -> Json:
    call.body.only("role")
    role = call.store.roles.find(call.body.need("role"))
    return _shown(call, call.store.memberships.change_role(call.membership, role))


def remove_member(call: Call) -> Json:
    """The membership as it was."""
    membership = call.membership
    shown = _shown(call, membership)
    call.store.memberships.delete(membership)
    return shown


def invite(call: Call) -> Json:
    """`organization`, `email_address`, and `role` where it is not the usual one."""
    call.body.only("organization", "email_address", "role")
    new = NewInvitation(email_address=call.body.need("email_address").strip(), role=offered_role(call))
    return _shown_invitation(call, call.store.invitations.create(stated(call), new))


def revoke_invitation(call: Call) -> Json:
    invitation = call.store.invitations.get(call.path["invitation_id"])
    return _shown_invitation(call, call.store.invitations.revoke(invitation, None))


def accept_invitation(call: Call) -> Json:
    """As the invited person would, who signs up first where needed."""
    return _shown(call, accept(call, call.store.invitations.get(call.path["invitation_id"])))


def accept_request(call: Call) -> Json:
    """Lets in who has asked for it, by a domain's suggestion."""
    return render_request(call.state, call.store.membership_requests.accept(_request(call)))


def reject_request(call: Call) -> Json:
    return render_request(call.state, call.store.membership_requests.reject(_request(call)))


def add_domain(call: Call) -> Json:
    """`organization`, `name`; also `enrollment_mode`, and `verified`, which it is unless that is false."""
    call.body.only("organization", "name", "enrollment_mode", "verified")
    mode, verified = call.body.text("enrollment_mode") or None, call.body.flag("verified") is not False
    domain = call.store.domains.create(stated(call), call.body.need("name"), mode, verified=verified)
    return render.domain(call.state, domain)


def update_domain(call: Call) -> Json:
    call.body.only("enrollment_mode", "verified")
    mode, verified = call.body.text("enrollment_mode"), call.body.flag("verified")
    return render.domain(call.state, call.store.domains.update(_domain(call), enrollment_mode=mode, verified=verified))


def remove_domain(call: Call) -> Json:
    domain = _domain(call)
    call.store.domains.delete(domain)
    return render.deleted(domain)


def accept(call: Call, invitation: Invitation) -> Membership:
    address = invitation.email_address
    user_id = call.state.user_by_email.get(address)
    if user_id is None:
        user_id = call.store.users.create(NewUser(email_addresses=(address,))).id
    return call.store.invitations.accept(invitation, user_id)


def stated(call: Call) -> Organization:
    """The one that the body names by id, slug or name."""
    return call.store.organizations.find(call.body.need("organization"))


def offered_role(call: Call) -> Role:
    """The one that the body names, or what a new member usually is."""
    return call.store.roles.find(call.body.text("role") or call.state.settings.domains_default_role)


def _named(call: Call) -> Organization:
    return call.store.organizations.find(call.path["organization"])


def _domain(call: Call) -> Domain:
    domain = call.state.domains.get(call.path["domain_id"])
    if domain is None:
        raise errors.not_found("organization domain", call.path["domain_id"])
    return domain


def _request(call: Call) -> MembershipRequest:
    request = call.state.membership_requests.get(call.path["request_id"])
    if request is None:
        raise errors.not_found("organization membership request", call.path["request_id"])
    return request


def _shown(call: Call, membership: Membership) -> Json:
    return render.membership(call.state, membership)


def _shown_invitation(call: Call, invitation: Invitation) -> Json:
    return render.invitation(call.state, invitation, now=call.store.clock())
