"""Clerk's JSON objects and events, and a small model of Clerk that lives a history and says what is true in the end.

Written from Clerk's documented shapes alone: nothing here knows how the mirror stores or merges them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

INSTANCE = "ins_of_the_tests"
START = 1_786_000_000_000  # ms


def organization(org_id: str = "org_1", *, at: int = START, created_at: int = START, **changes: Any) -> Json:
    return {
        "object": "organization",
        "id": org_id,
        "name": "Acme",
        "slug": None,
        "has_image": False,
        "members_count": 1,
        "max_allowed_memberships": 5,
        "admin_delete_enabled": True,
        "public_metadata": {},
        "private_metadata": {},
        "created_at": created_at,
        "updated_at": at,
    } | changes


def user(user_id: str = "user_1", *, at: int = START, created_at: int = START, **changes: Any) -> Json:
    return {
        "object": "user",
        "id": user_id,
        "external_id": None,
        "username": None,
        "first_name": "Ana",
        "last_name": "Quist",
        "image_url": "https://img.example.test/ana.png",
        "primary_email_address_id": "idn_1",
        "email_addresses": [{"id": "idn_1", "object": "email_address", "email_address": "ana@example.test"}],
        "public_metadata": {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "banned": False,
        "created_at": created_at,
        "updated_at": at,
    } | changes


def membership(
    membership_id: str = "orgmem_1",
    *,
    of: Json | None = None,
    user_id: str = "user_1",
    role: str | None = "org:member",
    at: int = START,
    created_at: int = START,
    **changes: Any,
) -> Json:
    return {
        "object": "organization_membership",
        "id": membership_id,
        "role": role,
        "permissions": ["org:sys_memberships:read"],
        "public_metadata": {},
        "private_metadata": {},
        "organization": organization() if of is None else of,
        "public_user_data": {"user_id": user_id, "first_name": None, "last_name": None, "identifier": None},
        "created_at": created_at,
        "updated_at": at,
    } | changes


def invitation(
    invitation_id: str = "orginv_1", *, org_id: str = "org_1", at: int = START, created_at: int = START, **changes: Any
) -> Json:
    return {
        "object": "organization_invitation",
        "id": invitation_id,
        "email_address": "guest@example.test",
        "role": "org:member",
        "organization_id": org_id,
        "status": "pending",
        "public_metadata": {},
        "url": "https://accounts.example.test/invite?ticket=secret-ticket",
        "expires_at": None,
        "created_at": created_at,
        "updated_at": at,
    } | changes


def domain(domain_id: str = "orgdmn_1", *, org_id: str = "org_1", at: int = START, **changes: Any) -> Json:
    return {
        "object": "organization_domain",
        "id": domain_id,
        "organization_id": org_id,
        "name": "example.test",
        "enrollment_mode": "manual_invitation",
        "verification": {"status": "verified", "strategy": "email_code", "attempts": 1},
        "created_at": START,
        "updated_at": at,
    } | changes


def permission(
    permission_id: str = "perm_1", *, key: str = "org:reports:read", at: int = START, **changes: Any
) -> Json:
    return {
        "object": "permission",
        "id": permission_id,
        "name": "Read reports",
        "key": key,
        "description": "See reports",
        "type": "custom",
        "created_at": START,
        "updated_at": at,
    } | changes


def role(role_id: str = "role_1", *, key: str | None = "org:editor", at: int = START, **changes: Any) -> Json:
    return {
        "object": "role",
        "id": role_id,
        "name": "Editor",
        "key": key,
        "description": None,
        "permissions": [permission()],
        "created_at": START,
        "updated_at": at,
    } | changes


def session(session_id: str = "sess_1", *, user_id: str = "user_1", at: int = START, **changes: Any) -> Json:
    return {
        "object": "session",
        "id": session_id,
        "user_id": user_id,
        "client_id": "client_1",
        "status": "ended",
        "latest_activity": {"id": "sess_activity_1", "ip_address": "203.0.113.24", "city": "Lisbon"},
        "created_at": START,
        "updated_at": at,
    } | changes


def deleted(object_type: str, object_id: str) -> Json:
    """Clerk's DeletedObject: no times, and no parent."""
    return {"object": object_type, "id": object_id, "deleted": True}


def event(event_type: str, data: Any, *, at: int = START, **changes: Any) -> Json:
    return {"object": "event", "type": event_type, "timestamp": at, "instance_id": INSTANCE, "data": data} | changes


@dataclass(frozen=True)
class Truth:
    """What Clerk would answer if it were asked for everything now."""

    organizations: dict[str, str]  # live id -> name
    users: dict[str, tuple[str, bool]]  # live id -> first name, banned
    members: dict[tuple[str, str], str]  # organization, user -> role


@dataclass(repr=False)
class Clerk:
    """Clerk, as far as a mirror can see it: acts change objects and emit events, whose order nobody promises.

    The clock stands still unless `wait` moves it, so that two acts may share a millisecond. `lag` is the time between
    an act and its event's timestamp.
    """

    cascade: bool = False  # whether deleting an organization or user emits a deletion for each membership
    now: int = START
    lag: int = 0
    organizations: dict[str, Json] = field(default_factory=dict)
    users: dict[str, Json] = field(default_factory=dict)
    memberships: dict[tuple[str, str], Json] = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)
    _made: int = 0

    def __repr__(self) -> str:
        """The history, short enough to read where a property fails."""
        told = "\n".join(f"  +{e['timestamp'] - START} {e['type']} {e['data']}" for e in self.events)
        return f"Clerk(cascade={self.cascade}):\n{told}\n"

    def wait(self, ms: int) -> None:
        self.now += ms

    def create_user(self, user_id: str, name: str = "Ana") -> None:
        if not self._ever("user.created", user_id):
            self.users[user_id] = user(user_id, at=self.now, created_at=self.now, first_name=name)
            self._emit("user.created", self.users[user_id])

    def update_user(self, user_id: str, **changes: Any) -> None:
        if user_id in self.users:
            self.users[user_id] |= changes | {"updated_at": self.now}
            self._emit("user.updated", self.users[user_id])

    def delete_user(self, user_id: str) -> None:
        if self.users.pop(user_id, None):
            self._emit("user.deleted", deleted("user", user_id))
            self._drop_memberships(pair for pair in list(self.memberships) if pair[1] == user_id)

    def create_organization(self, org_id: str, creator: str | None = None, name: str = "Acme") -> None:
        if not self._ever("organization.created", org_id):
            self.organizations[org_id] = organization(org_id, at=self.now, created_at=self.now, name=name)
            self._emit("organization.created", self.organizations[org_id])
            if creator:
                self.join(org_id, creator, "org:admin")

    def update_organization(self, org_id: str, **changes: Any) -> None:
        if org_id in self.organizations:
            self.organizations[org_id] |= changes | {"updated_at": self.now}
            self._emit("organization.updated", self.organizations[org_id])

    def delete_organization(self, org_id: str) -> None:
        if org_id in self.organizations:
            self._drop_memberships(pair for pair in list(self.memberships) if pair[0] == org_id)
            del self.organizations[org_id]
            self._emit("organization.deleted", deleted("organization", org_id))

    def join(self, org_id: str, user_id: str, role: str = "org:member") -> None:
        if org_id in self.organizations and user_id in self.users and (org_id, user_id) not in self.memberships:
            self._made += 1
            # Nobody leaves and joins again within a millisecond: the newest membership is known by its time.
            self.wait(1)
            self.memberships[org_id, user_id] = membership(
                f"orgmem_{self._made:04}", user_id=user_id, role=role, at=self.now, created_at=self.now
            )
            self._emit_membership("created", org_id, user_id)

    def change_role(self, org_id: str, user_id: str, role: str) -> None:
        if (org_id, user_id) in self.memberships:
            self.memberships[org_id, user_id] |= {"role": role, "updated_at": self.now}
            self._emit_membership("updated", org_id, user_id)

    def leave(self, org_id: str, user_id: str) -> None:
        if (org_id, user_id) in self.memberships:
            self._emit_membership("deleted", org_id, user_id)
            del self.memberships[org_id, user_id]

    def truth(self) -> Truth:
        return Truth(
            {org_id: shown["name"] for org_id, shown in self.organizations.items()},
            {user_id: (shown["first_name"], shown["banned"]) for user_id, shown in self.users.items()},
            {pair: shown["role"] for pair, shown in self.memberships.items()},
        )

    def listing(self, kind: str) -> list[Json]:
        """The whole Backend API listing of a kind, as of now."""
        if kind == "memberships":
            return [self._shown(*pair) for pair in self.memberships]
        return [dict(shown) for shown in getattr(self, kind).values()]

    def _drop_memberships(self, pairs: Iterable[tuple[str, str]]) -> None:
        for pair in pairs:
            if self.cascade:
                self.leave(*pair)
            else:
                del self.memberships[pair]

    def _shown(self, org_id: str, user_id: str) -> Json:
        return self.memberships[org_id, user_id] | {"organization": dict(self.organizations[org_id])}

    def _emit_membership(self, verb: str, org_id: str, user_id: str) -> None:
        self._emit(f"organizationMembership.{verb}", self._shown(org_id, user_id))

    def _emit(self, event_type: str, data: Json) -> None:
        self.events.append(event(event_type, dict(data), at=self.now + self.lag))

    def _ever(self, event_type: str, object_id: str) -> bool:
        return any(e["type"] == event_type and e["data"]["id"] == object_id for e in self.events)
