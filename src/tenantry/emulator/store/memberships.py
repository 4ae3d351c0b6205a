"""Memberships: who belongs to which organization, with which role."""

from __future__ import annotations

from tenantry.emulator import errors
from tenantry.emulator.records import Membership, Metadata, Organization, Role
from tenantry.emulator.store import metadata
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.sessions import Sessions

MANAGE = "org:sys_memberships:manage"


class Memberships:
    def __init__(self, core: Core, sessions: Sessions) -> None:
        self._core = core
        self._sessions = sessions

    def get(self, organization_id: str, user_id: str) -> Membership:
        membership = self._core.state.membership(organization_id, user_id)
        if membership is None:
            raise errors.not_found("membership", f"of user {user_id} in {organization_id}")
        return membership

    def create(
        self,
        organization: Organization,
        user_id: str,
        role: Role,
        *,
        public_metadata: Metadata | None = None,
        private_metadata: Metadata | None = None,
    ) -> Membership:
        self._check_new(organization, user_id)
        now = self._core.clock()
        membership = Membership(
            id=self._core.identifiers.new("orgmem"),
            created_at=now,
            updated_at=now,
            organization_id=organization.id,
            user_id=user_id,
            role_id=role.id,
            public_metadata=metadata.check("public_metadata", public_metadata or {}),
            private_metadata=metadata.check("private_metadata", private_metadata or {}),
        )
        self._core.create(membership)
        self._core.recount(organization.id)
        return membership

    def change_role(self, membership: Membership, role: Role) -> Membership:
        return self._core.update(membership, role_id=role.id)

    def merge_metadata(self, membership: Membership, new: dict[str, Metadata]) -> Membership:
        old = {param: getattr(membership, param) for param in new}
        return self._core.update(membership, **metadata.merged(old, new))

    def delete(self, membership: Membership) -> None:
        self._sessions.leave(membership.user_id, membership.organization_id)
        self._core.delete(membership)
        self._core.recount(membership.organization_id)

    def end_all(self, memberships: list[Membership]) -> None:
        """Memberships that go because their user or organization goes."""
        for membership in memberships:
            self._sessions.leave(membership.user_id, membership.organization_id)
            self._core.delete(membership, announce=self._core.assumptions.cascade_events)

    def check_not_last(self, membership: Membership) -> None:
        """ClerkError when nobody else could manage the organization's members: for what members do themselves."""
        state = self._core.state
        others = [each for each in state.memberships_of(membership.organization_id) if each.id != membership.id]
        if not any(state.holds(each, MANAGE) for each in others) and state.holds(membership, MANAGE):
            message = "There has to be at least one organization member with the minimum required permissions."
            raise errors.refused("organization_minimum_permissions_needed", message, status=400)

    def _check_new(self, organization: Organization, user_id: str) -> None:
        if user_id not in self._core.state.users:
            raise errors.not_found("user", user_id)
        if self._core.state.membership(organization.id, user_id):
            message = "The user is already a member of the organization."
            raise errors.refused("already_a_member_in_organization", message, status=400)
        check_room(self._core, organization, 1)


def check_room(core: Core, organization: Organization, new: int) -> None:
    """ClerkError when the organization may not have that many more members; a limit of 0 is none."""
    limit = organization.max_allowed_memberships
    if limit and len(core.state.members.get(organization.id, {})) + new > limit:
        message = f"You have reached your limit of {limit} organization memberships, including outstanding invitations."
        raise errors.refused("organization_membership_quota_exceeded", message)
