"""Whatever members do on their pages, in any order: counts, indexes and announced events agree with what is kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.frontend_api.offices import Browser, Office, open_office
from tenantry.emulator.records import TYPES, dump, load
from tenantry.emulator.state import State
from tenantry.emulator.store import Event

Json = dict[str, Any]

NAMES = ("ada", "ben", "cleo", "dora")
ROLES = ("org:admin", "org:member")
MANAGE = "org:sys_memberships:manage"
MODES = ("manual_invitation", "automatic_invitation", "automatic_suggestion")
# Each is done by one person to the n-th of what there is; most are refused to most people, which changes nothing.
ACTIONS = (
    *("create", "rename", "delete", "leave", "invite", "invite", "revoke", "add", "add", "change", "remove"),
    *("accept_invitation", "accept_suggestion", "accept_request", "reject_request", "add_domain", "set_mode"),
    *("remove_domain", "verify_email", "switch", "switch", "wait"),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 3), st.integers(0, 7), st.integers(0, 7)),
    min_size=10,
    max_size=50,
)


class Mirror:
    """Of what events tell, in the order in which they were announced."""

    def __init__(self) -> None:
        self.organizations: Json = {}
        self.memberships: Json = {}
        self.invitations: Json = {}
        self.domains: Json = {}

    def apply(self, event: Event) -> None:
        kind, _, change = event.type.partition(".")
        tables = {
            "organization": self.organizations,
            "organizationMembership": self.memberships,
            "organizationInvitation": self.invitations,
            "organizationDomain": self.domains,
        }
        if kind not in tables:
            return
        if change == "deleted":
            del tables[kind][event.data["id"]]
        else:
            tables[kind][event.data["id"]] = event.data
        if event.type == "organization.deleted":
            self._forget_children(event.data["id"])

    def _forget_children(self, id: str) -> None:
        for table in (self.invitations, self.domains):
            for key in [key for key, held in table.items() if held["organization_id"] == id]:
                del table[key]
        for key in [key for key, held in self.memberships.items() if held["organization"]["id"] == id]:
            del self.memberships[key]


class Building:
    """An office and its people; of two, the address at acme.test is verified, of the others there is none yet."""

    def __init__(self) -> None:
        self.office = open_office(max_allowed_memberships=3, max_allowed_domains=2)
        self.people = [
            self.office.person(name, at="acme.test" if name in ("ada", "ben") else "example.test") for name in NAMES
        ]
        self.state = self.office.emulator.store.state
        path = f"/organizations/{self.office.organization(self.people[0])}/domains"
        self.people[0].post(path, name="acme.test", enrollment_mode="automatic_suggestion")

    def do(self, action: str, who: int, which: int, other: int) -> None:
        """Any answer will do but one of a server that failed."""
        getattr(self, f"_{action}")(self.people[who], which, other)

    def _send(self, person: Browser, method: str, path: str, **form: Any) -> None:
        assert person.send(method, path, data=form).status_code < 500

    def _id(self, person: Browser, which: int) -> str:
        """More often one of the person's own organizations than just any."""
        mine = [*self.state.joined.get(person.user_id, {})]
        return str(_pick(mine if which < 6 and mine else [*self.state.organizations], which))

    def _send_in(self, person: Browser, which: int, method: str, child: str = "", **form: Any) -> None:
        """Half of the time it is not the person but an admin who asks."""
        id = self._id(person, which)
        admins = [each.user_id for each in self.state.memberships_of(id) if self.state.holds(each, MANAGE)]
        asking = next((each for each in self.people if each.user_id in admins and which % 2), person)
        self._send(asking, method, f"/organizations/{id}{child}", **form)

    def _create(self, person: Browser, which: int, other: int) -> None:
        if len(self.state.organizations) < 4:
            self._send(person, "POST", "/organizations", name=f"Acme {which}")

    def _rename(self, person: Browser, which: int, other: int) -> None:
        self._send_in(person, which, "PATCH", name=f"Globex {other}")

    def _delete(self, person: Browser, which: int, other: int) -> None:
        if other < 2:
            self._send_in(person, which, "DELETE")

    def _leave(self, person: Browser, which: int, other: int) -> None:
        self._send(person, "DELETE", f"/me/organization_memberships/{self._id(person, which)}")

    def _invite(self, person: Browser, which: int, other: int) -> None:
        addresses = [*self.state.user_by_email, "new@example.test"]
        form = {"email_address": _pick(addresses, other), "role": _pick(ROLES, which)}
        self._send_in(person, which, "POST", "/invitations", **form)

    def _revoke(self, person: Browser, which: int, other: int) -> None:
        ours = [each.id for each in self.state.invitations_of(self._id(person, which))]
        self._send_in(person, which, "POST", f"/invitations/{_pick(ours, other)}/revoke")

    def _add(self, person: Browser, which: int, other: int) -> None:
        form = {"user_id": _pick(self.people, other).user_id, "role": _pick(ROLES, which)}
        self._send_in(person, which, "POST", "/memberships", **form)

    def _change(self, person: Browser, which: int, other: int) -> None:
        path = f"/memberships/{_pick(self.people, other).user_id}"
        self._send_in(person, which, "PATCH", path, role=_pick(ROLES, which))

    def _remove(self, person: Browser, which: int, other: int) -> None:
        self._send_in(person, which, "DELETE", f"/memberships/{_pick(self.people, other).user_id}")

    def _accept_invitation(self, person: Browser, which: int, other: int) -> None:
        mine = [each.id for each in self.state.invitations_to(self.state.users[person.user_id])]
        self._send(person, "POST", f"/me/organization_invitations/{_pick(mine, which)}/accept")

    def _accept_suggestion(self, person: Browser, which: int, other: int) -> None:
        mine = [each.id for each in self.state.suggestions_to(person.user_id)]
        self._send(person, "POST", f"/me/organization_suggestions/{_pick(mine, which)}/accept")

    def _accept_request(self, person: Browser, which: int, other: int, verb: str = "accept") -> None:
        ours = [each.id for each in self.state.membership_requests_of(self._id(person, which))]
        self._send_in(person, which, "POST", f"/membership_requests/{_pick(ours, other)}/{verb}")

    def _reject_request(self, person: Browser, which: int, other: int) -> None:
        self._accept_request(person, which, other, "reject")

    def _add_domain(self, person: Browser, which: int, other: int) -> None:
        form = {"name": ("acme.test", "example.test")[other % 2], "enrollment_mode": _pick(MODES, other)}
        self._send_in(person, which, "POST", "/domains", **form)

    def _set_mode(self, person: Browser, which: int, other: int) -> None:
        ours = [each.id for each in self.state.domains_of(self._id(person, which))]
        form = {"enrollment_mode": _pick(MODES, other), "delete_pending": str(other > 3).lower()}
        self._send_in(person, which, "POST", f"/domains/{_pick(ours, which)}/update_enrollment_mode", **form)

    def _remove_domain(self, person: Browser, which: int, other: int) -> None:
        ours = [each.id for each in self.state.domains_of(self._id(person, which))]
        self._send_in(person, which, "DELETE", f"/domains/{_pick(ours, other)}")

    def _verify_email(self, person: Browser, which: int, other: int) -> None:
        """Somebody gets an address at acme.test, or loses that it is verified."""
        users, address = self.office.emulator.store.users, f"{person.user_id[-6:].lower()}@acme.test"
        if not any(each.email_address == address for each in self.state.users[person.user_id].email_addresses):
            users.add_email(person.user_id, address, verified=which > 3, primary=False)
            return
        email = next(each for each in self.state.users[person.user_id].email_addresses if each.email_address == address)
        users.update_email(email.id, verified=which > 3, primary=None)

    def _switch(self, person: Browser, which: int, other: int) -> None:
        path = f"/client/sessions/{person.session_id}/touch"
        self._send(person, "POST", path, active_organization_id=self._id(person, which))

    def _wait(self, person: Browser, which: int, other: int) -> None:
        """Past the expiry of invitations, once in a while; that of sessions comes earlier, so all sign in again."""
        self.office.clock.pass_seconds(which * 86_400 * 5)
        self.people = [Browser(self.office.emulator, each.user_id) for each in self.people]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_any_sequence_leaves_counts_indexes_and_announced_events_consistent(
    steps: list[tuple[str, int, int, int]],
) -> None:
    building = Building()
    for step in steps:
        building.do(*step)
    check_events(building.office)
    check_counts(building)
    check_indexes(building.state)
    check_rules(building.state)


def check_events(office: Office) -> None:
    mirror, state = Mirror(), office.emulator.store.state
    for event in office.events:
        mirror.apply(event)
    assert {id: each["name"] for id, each in mirror.organizations.items()} == {
        id: each.name for id, each in state.organizations.items()
    }
    assert {
        id: (each["organization"]["id"], each["public_user_data"]["user_id"], each["role"])
        for id, each in mirror.memberships.items()
    } == {
        id: (each.organization_id, each.user_id, state.roles[each.role_id].key)
        for id, each in state.memberships.items()
    }
    assert {id: each["status"] for id, each in mirror.invitations.items()} == {
        id: each.status for id, each in state.invitations.items()
    }
    assert {id: (each["name"], each["enrollment_mode"]) for id, each in mirror.domains.items()} == {
        id: (each.name, each.enrollment_mode) for id, each in state.domains.items()
    }


def check_counts(building: Building) -> None:
    """What each member's page shows."""
    state = building.state
    for membership in [*state.memberships.values()]:
        person = next(each for each in building.people if each.user_id == membership.user_id)
        shown = person.get(f"/organizations/{membership.organization_id}")
        members = Counter(each.organization_id for each in state.memberships.values())
        pending = [
            each
            for each in state.invitations.values()
            if each.organization_id == membership.organization_id and each.status == "pending" and not each.domain_id
        ]
        assert shown["members_count"] == members[membership.organization_id]
        assert shown["pending_invitations_count"] == len(pending)


def check_indexes(state: State) -> None:
    """A state that is built anew from the same records has the same indexes."""
    again = State()
    tables: Json = {"membership_request": "membership_requests"}
    for record_type in TYPES:
        for record in getattr(state, tables.get(record_type.kind, f"{record_type.kind}s")).values():
            again.put(load(record_type, dump(record)))
    assert _indexes(again) == _indexes(state)


def check_rules(state: State) -> None:
    for organization in state.organizations.values():
        members = state.memberships_of(organization.id)
        assert len(members) <= 3
        assert any(state.holds(each, MANAGE) for each in members)
    for session in state.sessions.values():
        assert session.organization_id is None or state.membership(session.organization_id, session.user_id)
    for request in state.membership_requests.values():
        assert request.status != "pending" or not state.membership(request.organization_id, request.user_id)


def _indexes(state: State) -> Json:
    """Without what is empty, and whatever the order."""
    found = {name: value for name, value in vars(state).items() if not name.startswith("_")}
    found = {name: value for name, value in found.items() if isinstance(value, dict) and name != "meta"}
    return {name: {key: _filled(held) for key, held in value.items() if _filled(held)} for name, value in found.items()}


def _filled(held: Any) -> Any:
    return {key: value for key, value in held.items() if value} if isinstance(held, dict) else held


def _pick(choices: Any, number: int) -> Any:
    return choices[number % len(choices)] if choices else "none"
