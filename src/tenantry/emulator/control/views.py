"""What each page shows, read off the state: one function a page."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tenantry.emulator.control import instance, rows, triggers, webhooks
from tenantry.emulator.control.call import Call, Json
from tenantry.emulator.records import User
from tenantry.emulator.seed import DEFAULT_PASSWORD
from tenantry.emulator.store.domains import ENROLLMENT_MODES

_SHOWN = 50  # rows of a list: a seed may hold thousands
_OFFERED = 500  # of a choice


@dataclass(frozen=True, slots=True)
class Page:
    """`live` is the template of the part that is kept up to date; `build` gives what both templates need."""

    template: str
    build: Callable[[Call], Json]
    live: str | None = None


def people(call: Call) -> Json:
    query = (call.body.text("q") or "").strip()
    found = [user for user in call.state.users.values() if _matches(query, user)]
    shown = [rows.person(call.state, user) for user in found[:_SHOWN]]
    return {"query": query, "people": shown, "found": len(found), "default_password": DEFAULT_PASSWORD}


def one_person(call: Call) -> Json:
    user = call.store.users.find(call.path["user"])
    here = {membership.organization_id for membership in call.state.memberships_of_user(user.id)}
    others = [each for each in call.state.organizations.values() if each.id not in here]
    stays = [rows.stay(call.state, session) for session in reversed(call.state.live_sessions_of(user.id))]
    return {"person": rows.person(call.state, user), "others": others[:_OFFERED], "stays": stays}


def organizations(call: Call) -> Json:
    query = (call.body.text("q") or "").strip()
    found = [each for each in call.state.organizations.values() if query.lower() in each.name.lower()]
    return {"query": query, "groups": [rows.group(call, each) for each in found[:_SHOWN]], "found": len(found)}


def one_organization(call: Call) -> Json:
    organization = call.store.organizations.find(call.path["organization"])
    memberships = call.state.memberships_of(organization.id)
    here = {membership.user_id for membership in memberships}
    others = [user for user in call.state.users.values() if user.id not in here]
    return {
        "organization": organization,
        "members": len(memberships),
        "places": [rows.place(call.state, each) for each in memberships[:_OFFERED]],
        "others": [rows.person(call.state, user) for user in others[:_OFFERED]],
        "offers": [rows.offer(call, each) for each in reversed(call.state.invitations_of(organization.id))],
        "requests": [rows.asked(call.state, each) for each in call.state.membership_requests_of(organization.id)],
        "domains": call.state.domains_of(organization.id),
        "enrollment_modes": ENROLLMENT_MODES,
    }


def roles(call: Call) -> Json:
    permissions = list(call.state.permissions.values())
    ordered = [each for each in permissions if not each.is_system] + [each for each in permissions if each.is_system]
    return {"held": [rows.held(call.state, role) for role in call.state.roles.values()], "permissions": ordered}


def deliveries(call: Call) -> Json:
    known = call.emulator.webhooks.deliveries()
    return {
        "sent": [rows.sent(delivery) for delivery in reversed(known[-_SHOWN:])],
        "found": len(known),
        "paused": call.emulator.webhooks.paused,
        "unfinished": call.emulator.webhooks.unfinished,
        "endpoints": list(call.emulator.webhooks.endpoints.values()),
        "disorder": asdict(call.emulator.webhooks.disorder),
        "triggers": list(triggers.TRIGGERS.values()),
    }


def one_delivery(call: Call) -> Json:
    delivery = webhooks.find_delivery(call)
    body = json.dumps(json.loads(delivery.message.body), indent=2, ensure_ascii=False)
    return {"row": rows.sent(delivery), "delivery": delivery, "content": body}


def settings(call: Call) -> Json:
    return {"settings": instance.settings_of(call.state), "emulator": call.emulator.instance}


def tokens(call: Call) -> Json:
    return {
        "people": [rows.person(call.state, user) for user in list(call.state.users.values())[:_OFFERED]],
        "organizations": list(call.state.organizations.values())[:_OFFERED],
        "user": call.body.text("user") or "",
        "organization": call.body.text("organization") or "",
    }


def decode(jwt: str) -> dict[str, Any]:
    """A token's `header` and `claims`, unverified: it has just been signed."""
    header, claims, _ = jwt.split(".")
    return {"jwt": jwt, "header": _decode_part(header), "claims": _decode_part(claims)}


def _decode_part(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _matches(query: str, user: User) -> bool:
    return query.lower() in f"{user.full_name} {user.identifier} {user.id}".lower()


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
