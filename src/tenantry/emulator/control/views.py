"""What each page shows, read off the state: one function a page, frozen rows for its template."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tenantry.emulator.control import instance, triggers, webhooks
from tenantry.emulator.control.call import Call, Json
from tenantry.emulator.deliveries import Delivery
from tenantry.emulator.disorder import FAULTS
from tenantry.emulator.records import Domain, Invitation, Membership, Organization, Role, Session, User
from tenantry.emulator.render import invitation_status
from tenantry.emulator.seed import DEFAULT_PASSWORD
from tenantry.emulator.state import State
from tenantry.emulator.store.domains import ENROLLMENT_MODES

_SHOWN = 50  # rows of a list: a seed may hold thousands


@dataclass(frozen=True, slots=True)
class Place:
    """A membership with what it refers to."""

    membership: Membership
    organization: Organization
    user: User
    role: Role

    @property
    def person(self) -> str:
        return name_of(self.user)


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


@dataclass(frozen=True, slots=True)
class Page:
    """`live` is the template of the part that is kept up to date; `build` gives what both templates need."""

    template: str
    build: Callable[[Call], Json]
    live: str | None = None


def people(call: Call) -> Json:
    query = (call.body.text("q") or "").strip()
    found = [user for user in call.state.users.values() if _matches(query, user)]
    shown = [person(call.state, user) for user in found[:_SHOWN]]
    return {"query": query, "people": shown, "found": len(found), "default_password": DEFAULT_PASSWORD}


def one_person(call: Call) -> Json:
    user = call.store.users.find(call.path["user"])
    here = {membership.organization_id for membership in call.state.memberships_of_user(user.id)}
    others = [each for each in call.state.organizations.values() if each.id not in here]
    stays = [_stay(call.state, session) for session in reversed(call.state.live_sessions_of(user.id))]
    return {"person": person(call.state, user), "others": others, "stays": stays}


def organizations(call: Call) -> Json:
    query = (call.body.text("q") or "").strip()
    found = [each for each in call.state.organizations.values() if query.lower() in each.name.lower()]
    return {"query": query, "groups": [_group(call, each) for each in found[:_SHOWN]], "found": len(found)}


def one_organization(call: Call) -> Json:
    organization = call.store.organizations.find(call.path["organization"])
    places = [_place(call.state, each) for each in call.state.memberships_of(organization.id)]
    here = {place.user.id for place in places}
    others = [person(call.state, user) for user in call.state.users.values() if user.id not in here]
    domains: list[Domain] = call.state.domains_of(organization.id)
    return {
        "organization": organization,
        "places": places,
        "others": others[:500],
        "offers": [_offer(call, each) for each in reversed(call.state.invitations_of(organization.id))],
        "domains": domains,
        "enrollment_modes": ENROLLMENT_MODES,
    }


def roles(call: Call) -> Json:
    permissions = list(call.state.permissions.values())
    ordered = [each for each in permissions if not each.is_system] + [each for each in permissions if each.is_system]
    return {"held": [_held(call.state, role) for role in call.state.roles.values()], "permissions": ordered}


def deliveries(call: Call) -> Json:
    known = call.emulator.webhooks.deliveries()
    return {
        "sent": [_sent(delivery) for delivery in reversed(known[-_SHOWN:])],
        "found": len(known),
        "paused": call.emulator.webhooks.paused,
        "unfinished": call.emulator.webhooks.unfinished,
        "endpoints": list(call.emulator.webhooks.endpoints.values()),
        "disorder": asdict(call.emulator.webhooks.disorder),
        "faults": FAULTS,
        "triggers": list(triggers.TRIGGERS.values()),
        "parameters": triggers.PARAMETERS,
    }


def one_delivery(call: Call) -> Json:
    delivery = webhooks.find_delivery(call)
    body = json.dumps(json.loads(delivery.message.body), indent=2, ensure_ascii=False)
    return {"row": _sent(delivery), "delivery": delivery, "content": body}


def settings(call: Call) -> Json:
    return {"settings": instance.settings_of(call.state), "emulator": call.emulator.instance}


def tokens(call: Call) -> Json:
    return {
        "people": [person(call.state, user) for user in list(call.state.users.values())[:500]],
        "organizations": list(call.state.organizations.values())[:500],
        "user": call.body.text("user") or "",
        "organization": call.body.text("organization") or "",
    }


def person(state: State, user: User) -> Person:
    places = tuple(_place(state, membership) for membership in state.memberships_of_user(user.id))
    return Person(user, name_of(user), places, len(state.live_sessions_of(user.id)))


def name_of(user: User) -> str:
    return " ".join(filter(None, (user.first_name, user.last_name))) or user.identifier


def decode(jwt: str) -> dict[str, Any]:
    """A token's `header` and `claims`, unverified: it has just been signed."""
    header, claims, _ = jwt.split(".")
    return {"jwt": jwt, "header": _decode_part(header), "claims": _decode_part(claims)}


def _decode_part(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _matches(query: str, user: User) -> bool:
    return query.lower() in f"{name_of(user)} {user.identifier} {user.id}".lower()


def _place(state: State, membership: Membership) -> Place:
    return Place(
        membership,
        state.organizations[membership.organization_id],
        state.users[membership.user_id],
        state.roles[membership.role_id],
    )


def _group(call: Call, organization: Organization) -> Group:
    statuses = [_offer(call, each).status for each in call.state.invitations_of(organization.id)]
    return Group(organization, len(call.state.members.get(organization.id, {})), statuses.count("pending"))


def _offer(call: Call, invitation: Invitation) -> Offer:
    status = invitation_status(invitation, call.store.clock())
    return Offer(invitation, status, call.state.roles[invitation.role_id])


def _stay(state: State, session: Session) -> Stay:
    organization = state.organizations.get(session.organization_id or "")
    return Stay(session, organization.name if organization else None)


def _held(state: State, role: Role) -> Held:
    members = sum(holders[role.id] for holders in state.role_holders.values())
    return Held(role, frozenset(each.key for each in state.permissions_of(role)), members)


def _sent(delivery: Delivery) -> Sent:
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


PAGES: dict[str, Page] = {
    "/": Page("people.html", people, "people_live.html"),
    "/people/{user}": Page("person.html", one_person, "person_live.html"),
    "/organizations": Page("organizations.html", organizations, "organizations_live.html"),
    "/organizations/{organization}": Page("organization.html", one_organization, "organization_live.html"),
    "/roles": Page("roles.html", roles),
    "/webhooks": Page("webhooks.html", deliveries, "webhooks_live.html"),
    "/webhooks/{delivery_id}": Page("delivery.html", one_delivery, "delivery_live.html"),
    "/settings": Page("settings.html", settings),
    "/tokens": Page("tokens.html", tokens),
}
