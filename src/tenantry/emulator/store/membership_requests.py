"""Requests to be let into an organization, made by accepting its suggestion."""

from __future__ import annotations

from tenantry.emulator import errors
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.records import MembershipRequest, Suggestion
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.memberships import Memberships


class MembershipRequests:
    def __init__(self, core: Core, memberships: Memberships) -> None:
        self._core = core
        self._memberships = memberships

    def get(self, organization_id: str, id: str) -> MembershipRequest:
        request = self._core.state.membership_requests.get(id)
        if request is None or request.organization_id != organization_id:
            raise errors.not_found("organization membership request", id)
        return request

    def get_suggestion(self, user_id: str, id: str) -> Suggestion:
        suggestion = self._core.state.suggestions.get(id)
        if suggestion is None or suggestion.user_id != user_id:
            raise errors.not_found("organization suggestion", id)
        return suggestion

    def ask(self, suggestion: Suggestion) -> Suggestion:
        """The suggestion, accepted: its person asks to be let in."""
        if suggestion.status != "pending":
            message = "This organization suggestion has already been accepted."
            raise errors.refused("organization_suggestion_already_accepted", message, status=400)
        now = self._core.clock()
        request = MembershipRequest(
            id=self._core.identifiers.new("orgmreq"),
            created_at=now,
            updated_at=now,
            organization_id=suggestion.organization_id,
            user_id=suggestion.user_id,
            suggestion_id=suggestion.id,
        )
        self._core.create(request)
        return self._core.update(suggestion, status="accepted")

    def accept(self, request: MembershipRequest) -> MembershipRequest:
        """The person becomes a member; that settles the request, as any way into the organization does."""
        self._check_pending(request)
        state = self._core.state
        role = state.roles[state.role_by_key[state.settings.domains_default_role]]
        self._memberships.create(state.organizations[request.organization_id], request.user_id, role)
        return state.membership_requests[request.id]

    def reject(self, request: MembershipRequest) -> MembershipRequest:
        """The suggestion is not made again."""
        self._check_pending(request)
        suggestion = self._core.state.suggestions.get(request.suggestion_id)
        if suggestion:
            self._core.update(suggestion, status="completed")
        return self._core.update(request, status="rejected")

    def _check_pending(self, request: MembershipRequest) -> None:
        if request.status != "pending":
            message = f"Only a pending membership request can be answered; this one is {request.status}."
            raise ClerkError(404, "resource_not_found", message)
