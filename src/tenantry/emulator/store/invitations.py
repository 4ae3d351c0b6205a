"""Invitations to an organization: made, accepted, revoked."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit

from tenantry.emulator import errors, render
from tenantry.emulator.records import Domain, Invitation, Membership, Metadata, Organization, Role
from tenantry.emulator.store import metadata
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.memberships import MANAGE, Memberships, check_room
from tenantry.emulator.store.users import checked_email

_DAY = 86_400_000
_LONG = 365  # days: what a domain offers does not pass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInvitation:
    email_address: str
    role: Role
    inviter_id: str | None = None
    redirect_url: str | None = None  # where the link of the invitation's message leads
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
        check_room(self._core, organization, len(self._outstanding(organization)) + len(new))
        invitations = [self._make(organization, each) for each in new]
        if len({invitation.email_address for invitation in invitations}) < len(invitations):
            raise _duplicate("An address is invited twice in one request.", [each.email_address for each in new])
        for invitation in invitations:
            self._core.create(invitation)
        self._core.recount(organization.id)
        return invitations

    def create_for_domain(self, domain: Domain, email_address: str) -> Invitation:
        """The invitation by which a domain invites whoever has an address of it; it takes no seat."""
        state = self._core.state
        role = state.roles[state.role_by_key[state.settings.domains_default_role]]
        new = NewInvitation(email_address=email_address, role=role, expires_in_days=_LONG)
        return self._core.create(self._build(state.organizations[domain.organization_id], new, domain_id=domain.id))

    def find_by_ticket(self, ticket: str) -> Invitation | None:
        """The invitation with this ticket; None when no invitation has it. ClerkError when it can be used no more."""
        state = self._core.state
        invitation = state.invitations.get(state.invitation_by_ticket.get(ticket, ""))
        if invitation is None:
            return None
        match render.invitation_status(invitation, self._core.clock()):
            case "accepted":
                message = "This invitation has already been accepted. Sign in instead."
                raise errors.refused("organization_invitation_already_accepted", message, status=400)
            case "revoked":
                message = "This invitation has been revoked and cannot be used anymore."
                raise errors.refused("organization_invitation_revoked_code", message, status=400)
            case "expired":
                message = "This ticket has expired and cannot be used anymore."
                raise errors.refused("ticket_expired_code", message, status=400)
        return invitation

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
        return self._build(organization, replace(new, email_address=address))

    def _build(self, organization: Organization, new: NewInvitation, *, domain_id: str | None = None) -> Invitation:
        now = self._core.clock()
        ticket = secrets.token_hex(24)
        return Invitation(
            id=self._core.identifiers.new("orginv"),
            created_at=now,
            updated_at=now,
            organization_id=organization.id,
            email_address=new.email_address,
            role_id=new.role.id,
            inviter_id=new.inviter_id,
            expires_at=now + new.expires_in_days * _DAY,
            url=self._link(new, ticket),
            ticket=ticket,
            domain_id=domain_id,
            public_metadata=metadata.check("public_metadata", new.public_metadata),
            private_metadata=metadata.check("private_metadata", new.private_metadata),
        )

    def _link(self, new: NewInvitation, ticket: str) -> str | None:
        """To the inviter's page, which hands the ticket to the sign-up, or to the sign-in of who has an account."""
        if not new.redirect_url:
            return None
        status = "sign_in" if new.email_address in self._core.state.user_by_email else "sign_up"
        parts = _split(new.redirect_url)
        query = [parts.query] if parts.query else []
        query.append(urlencode({"__clerk_ticket": ticket, "__clerk_status": status}))
        return urlunsplit(parts._replace(query="&".join(query)))

    def _outstanding(self, organization: Organization) -> list[Invitation]:
        now = self._core.clock()
        found = self._core.state.invitations_of(organization.id)
        return [each for each in found if render.invitation_status(each, now) == "pending" and not each.domain_id]

    def _check_free(self, organization: Organization, address: str) -> None:
        state = self._core.state
        user_id = state.user_by_email.get(address)
        if user_id and state.membership(organization.id, user_id):
            message = f"{address} is already a member of the organization."
            raise errors.refused("already_a_member_in_organization", message, status=400)
        if any(invitation.email_address == address for invitation in self._outstanding(organization)):
            raise _duplicate(f"There is already a pending invitation for {address}.", [address])

    def _check_pending(self, invitation: Invitation) -> None:
        status = render.invitation_status(invitation, self._core.clock())
        if status != "pending":
            message = f"Only a pending invitation can be used; this one is {status}."
            raise errors.refused("organization_invitation_not_pending", message, status=400)

    def _check_admin(self, organization_id: str, user_id: str, param: str) -> None:
        state = self._core.state
        membership = state.membership(organization_id, user_id)
        if membership is None or not state.holds(membership, MANAGE):
            message = f"{param} must be a member who may manage memberships of the organization."
            raise errors.refused("not_an_admin_in_organization", message)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        message = "The provided redirect url is not in a valid format; write something like http://127.0.0.1:8000/join."
        raise errors.ClerkError(422, "invalid_redirect_url", message, param="redirect_url")
    return parts


def _duplicate(message: str, addresses: list[str]) -> errors.ClerkError:
    """Clerk's form takes those addresses out again."""
    return errors.ClerkError(400, "duplicate_record", message, meta={"email_addresses": addresses})
