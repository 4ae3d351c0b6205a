"""Invitations to an organization: made, accepted, revoked."""

from __future__ import annotations

from dataclasses import dataclass, field

from tenantry.emulator import errors, render
from tenantry.emulator.records import Invitation, Membership, Metadata, Organization, Role
from tenantry.emulator.store import metadata
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.memberships import Memberships, check_room
from tenantry.emulator.store.users import checked_email

_DAY = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInvitation:
    email_address: str
    role: Role
    inviter_id: str | None = None
    redirect_url: str | None = None
    expires_in_days: int = 30
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)


class Invitations:
    def __init__(self, core: Core, memberships: Memberships) -> None:
        self._core = core
        self._memberships = memberships

    def get(self, id: str, organization_id: str | None = None) -> Invitation:
        invitation = self._core.state.invitations.get(id)
        if invitation is None or organization_id not in (None, invitation.organization_id):
            raise errors.not_found("invitation", id)
        return invitation

    def create(self, organization: Organization, new: NewInvitation) -> Invitation:
        return self.create_all(organization, [new])[0]

    def create_all(self, organization: Organization, new: list[NewInvitation]) -> list[Invitation]:
        """All or none."""
        check_room(self._core, organization)
        invitations = [self._make(organization, each) for each in new]
        if len({invitation.email_address for invitation in invitations}) < len(invitations):
            raise errors.refused("duplicate_record", "An address is invited twice in one request.", status=400)
        for invitation in invitations:
            self._core.create(invitation)
        self._core.recount(organization.id)
        return invitations

    def revoke(self, invitation: Invitation, requesting_user_id: str | None) -> Invitation:
        self._check_pending(invitation)
        if requesting_user_id is not None:
            self._check_admin(invitation.organization_id, requesting_user_id, "requesting_user_id")
        revoked = self._core.update(invitation, status="revoked")
        self._core.recount(invitation.organization_id)
        return revoked

    def accept(self, invitation: Invitation, user_id: str) -> Membership:
        """The user becomes a member, with the invitation's role and metadata."""
        self._check_pending(invitation)
        state = self._core.state
        organization, role = state.organizations[invitation.organization_id], state.roles[invitation.role_id]
        membership = self._memberships.create(
            organization,
            user_id,
            role,
            public_metadata=invitation.public_metadata,
            private_metadata=invitation.private_metadata,
        )
        self._core.update(invitation, status="accepted", user_id=user_id)
        return membership

    def _make(self, organization: Organization, new: NewInvitation) -> Invitation:
        address = checked_email("email_address", new.email_address)
        self._check_free(organization, address)
        if new.inviter_id is not None:
            self._check_admin(organization.id, new.inviter_id, "inviter_user_id")
        now = self._core.clock()
        id = self._core.identifiers.new("orginv")
        return Invitation(
            id=id,
            created_at=now,
            updated_at=now,
            organization_id=organization.id,
            email_address=address,
            role_id=new.role.id,
            inviter_id=new.inviter_id,
            expires_at=now + new.expires_in_days * _DAY,
            url=new.redirect_url,
            public_metadata=metadata.check("public_metadata", new.public_metadata),
            private_metadata=metadata.check("private_metadata", new.private_metadata),
        )

    def _check_free(self, organization: Organization, address: str) -> None:
        state, now = self._core.state, self._core.clock()
        user_id = state.user_by_email.get(address)
        if user_id and state.membership(organization.id, user_id):
            message = f"{address} is already a member of the organization."
            raise errors.refused("already_a_member_in_organization", message, status=400)
        for invitation in state.invitations_of(organization.id):
            if invitation.email_address == address and render.invitation_status(invitation, now) == "pending":
                message = f"There is already a pending invitation for {address}."
                raise errors.refused("duplicate_record", message, status=400)

    def _check_pending(self, invitation: Invitation) -> None:
        status = render.invitation_status(invitation, self._core.clock())
        if status != "pending":
            message = f"Only a pending invitation can be used; this one is {status}."
            raise errors.refused("organization_invitation_not_pending", message, status=400)

    def _check_admin(self, organization_id: str, user_id: str, param: str) -> None:
        state = self._core.state
        membership = state.membership(organization_id, user_id)
        held = state.permissions_of(state.roles[membership.role_id]) if membership else []
        if not any(permission.key == "org:sys_memberships:manage" for permission in held):
            message = f"{param} must be a member who may manage memberships of the organization."
            raise errors.refused("not_an_admin_in_organization", message)
