"""What verified domains offer by themselves: invitations and suggestions to whoever has an address of theirs."""

from __future__ import annotations

from tenantry.emulator.records import Domain, Membership, Record, Suggestion, User
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.invitations import Invitations


class Enrollments:
    """Follows domains, users and memberships, whoever changes them."""

    def __init__(self, core: Core, invitations: Invitations) -> None:
        self._core = core
        self._invitations = invitations
        core.follow(Domain, changed=self._offer_to_all, deleted=self.withdraw)
        core.follow(User, changed=self._offer_all, deleted=self._forget_user)
        core.follow(Membership, changed=self._settle)

    def withdraw(self, domain: Domain) -> None:
        """Takes back what the domain offered and nobody has answered."""
        state = self._core.state
        for invitation in state.invitations_of(domain.organization_id):
            if invitation.domain_id == domain.id and invitation.status == "pending":
                self._core.update(invitation, status="revoked")
        for suggestion in state.suggestions_of(domain.organization_id):
            if suggestion.domain_id == domain.id and suggestion.status == "pending":
                self._core.delete(suggestion, announce=False)

    def _offer_to_all(self, domain: Domain) -> None:
        if _offers(domain):
            for user in [*self._core.state.users.values()]:
                self._offer(domain, user)

    def _offer_all(self, user: User) -> None:
        state = self._core.state
        for email in user.email_addresses:
            domain_id = state.domain_by_name.get(email.email_address.partition("@")[2])
            if domain_id and _offers(state.domains[domain_id]):
                self._offer(state.domains[domain_id], user)

    def _offer(self, domain: Domain, user: User) -> None:
        """Once to each person, who may have answered it long ago."""
        state = self._core.state
        addresses = [each.email_address for each in user.email_addresses if each.verified]
        address = next((each for each in addresses if each.partition("@")[2] == domain.name), None)
        if address is None or not state.settings.domains_enabled or state.membership(domain.organization_id, user.id):
            return
        if domain.enrollment_mode == "automatic_invitation":
            if not any(each.domain_id == domain.id for each in state.invitations_to(user)):
                self._invitations.create_for_domain(domain, address)
        elif not any(each.domain_id == domain.id for each in state.suggestions_to(user.id)):
            self._suggest(domain, user)

    def _suggest(self, domain: Domain, user: User) -> None:
        now = self._core.clock()
        suggestion = Suggestion(
            id=self._core.identifiers.new("orgsug"),
            created_at=now,
            updated_at=now,
            organization_id=domain.organization_id,
            domain_id=domain.id,
            user_id=user.id,
        )
        self._core.create(suggestion)

    def _settle(self, membership: Membership) -> None:
        """Who is a member waits for no answer any more, however they came in."""
        state, organization_id = self._core.state, membership.organization_id
        for request in state.membership_requests_from(membership.user_id):
            if request.organization_id == organization_id and request.status == "pending":
                self._core.update(request, status="accepted")
        for suggestion in state.suggestions_to(membership.user_id):
            if suggestion.organization_id == organization_id and suggestion.status != "completed":
                self._core.update(suggestion, status="completed")

    def _forget_user(self, user: User) -> None:
        state = self._core.state
        asked: list[Record] = [*state.membership_requests_from(user.id), *state.suggestions_to(user.id)]
        for each in asked:
            self._core.delete(each, announce=False)


def _offers(domain: Domain) -> bool:
    automatic = domain.enrollment_mode in ("automatic_invitation", "automatic_suggestion")
    return automatic and domain.verified_at is not None
