"""What the pages list, row by row: records with what they refer to, frozen."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tenantry.emulator.control.call import Call, Json
from tenantry.emulator.deliveries import Delivery
from tenantry.emulator.records import (
    Invitation,
    Membership,
    MembershipRequest,
    Organization,
    Role,
    Session,
    User,
)
from tenantry.emulator.render import invitation_status
from tenantry.emulator.state import State


@dataclass(frozen=True, slots=True)
class Place:
    """A membership with what it refers to."""

    membership: Membership
    organization: Organization
    user: User
    role: Role

    @property
    def person(self) -> str:
        return self.user.full_name


@dataclass(frozen=True, slots=True)
class Person:
    user: User
    name: str
    places: tuple[Place, ...]
    sessions: int


@dataclass(frozen=True, slots=True)
class Group:
    """An organization in numbers."""

    organization: Organization
    members: int
    invitations: int


@dataclass(frozen=True, slots=True)
class Offer:
    """An invitation, with its status as of now."""

    invitation: Invitation
    status: str
    role: Role


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to be let in, with who asks."""

    request: MembershipRequest
    user: User
    person: str


@dataclass(frozen=True, slots=True)
class Stay:
    """A session with the name of its active organization."""

    session: Session
    organization: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """A role, the permissions it holds, and how many members hold it."""

    role: Role
    keys: frozenset[str]
    members: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A delivery in a line. `about` says whom or what the event is about; `at` in milliseconds."""

    id: str
    type: str
    about: str
    status: str
    fault: str | None
    at: int
    tries: int
    answer: str
    next_at: int | None


def person(state: State, user: User) -> Person:
    places = tuple(place(state, membership) for membership in state.memberships_of_user(user.id))
    return Person(user, user.full_name, places, len(state.live_sessions_of(user.id)))


def place(state: State, membership: Membership) -> Place:
    return Place(
        membership,
        state.organizations[membership.organization_id],
        state.users[membership.user_id],
        state.roles[membership.role_id],
    )


def group(call: Call, organization: Organization) -> Group:
    statuses = [offer(call, each).status for each in call.state.invitations_of(organization.id)]
    return Group(organization, len(call.state.members.get(organization.id, {})), statuses.count("pending"))


def offer(call: Call, invitation: Invitation) -> Offer:
    status = invitation_status(invitation, call.store.clock())
    return Offer(invitation, status, call.state.roles[invitation.role_id])


def asked(state: State, request: MembershipRequest) -> Asked:
    user = state.users[request.user_id]
    return Asked(request, user, user.full_name)


def stay(state: State, session: Session) -> Stay:
    organization = state.organizations.get(session.organization_id or "")
    return Stay(session, organization.name if organization else None)


def held(state: State, role: Role) -> Held:
    members = sum(holders[role.id] for holders in state.role_holders.values())
    return Held(role, frozenset(each.key for each in state.permissions_of(role)), members)


def sent(delivery: Delivery) -> Sent:
    body, last = json.loads(delivery.message.body), delivery.attempts[-1] if delivery.attempts else None
    answer = str(last.status or last.error or "") if last else ""
    again = last.at + round(last.retry_in * 1000) if last and last.retry_in is not None else None
    return Sent(
        id=delivery.id,
        type=delivery.message.type,
        about=_about(body["data"]),
        status=delivery.status,
        fault=delivery.fault,
        at=body["timestamp"],
        tries=delivery.tries,
        answer=answer,
        next_at=again if delivery.status == "waiting" else None,
    )


def _about(data: Json) -> str:
    """Whom or what the event is about, for people: `grace@example.test in Acme`."""
    match data:
        case {"public_user_data": {"identifier": who}, "organization": {"name": where}}:
            return f"{who} in {where}"
        case {"email_address": str(who), "public_organization_data": {"name": where}}:
            return f"{who} to {where}"
        case {"user": {"email_addresses": [{"email_address": who}, *_]}}:
            return str(who)
        case {"email_addresses": [{"email_address": who}, *_]}:
            return str(who)
        case {"key": str(key)}:
            return key
        case {"name": str(name)}:
            return name
        case _:
            return str(data.get("id", ""))
