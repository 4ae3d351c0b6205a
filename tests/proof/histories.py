"""Every history of a few events over two people and two organizations, lived by the emulator, and its truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from reconciling import Truth, truth_of
from sql.clerk_objects import INSTANCE, START
from tenantry.emulator.identifiers import Identifiers
from tenantry.emulator.settings import Assumptions
from tenantry.emulator.store import Event, Store
from tenantry.emulator.store.users import NewUser

PEOPLE = PLACES = (0, 1)
ROLES = ("org:member", "org:admin")
STEP_MS = 1000

Act = tuple[str, int, int]  # what, which person, which organization
Told = tuple[str, ...]  # bodies of deliveries; ids end in MARK, to be made those of one world among many
MARK = "~"


@dataclass(frozen=True)
class History:
    """Acts, the deliveries they cause, and what is true afterwards."""

    acts: tuple[Act, ...]
    told: Told
    truth: Truth = field(compare=False)


class _Names(Identifiers):
    """Ids that say what they are of, so that one event of two histories is the same delivery."""

    def __init__(self) -> None:
        super().__init__(0)
        self.act: Act = ("", 0, 0)
        self.step = 0

    def new(self, prefix: str) -> str:
        _, person, place = self.act
        about = {"user": person, "idn": person, "org": place, "orgmem": f"{self.step:02}"}
        return f"{prefix}_{about[prefix]}{MARK}" if prefix in about else super().new(prefix)


class Clerk:
    """The emulator's store, driven act by act; its clock moves on with each."""

    def __init__(self, *, cascade: bool) -> None:
        self._step = 0
        self._told: list[str] = []
        self.store = Store(clock=self._clock, assumptions=Assumptions(cascade_events=cascade))
        self._names = _Names()
        self.store._core.identifiers = self._names
        self.store.subscribe(self._hear)

    def live(self, acts: tuple[Act, ...]) -> History:
        for self._step, act in enumerate(acts, 1):
            self._names.act, self._names.step = act, self._step
            self._do(*act)
        return History(acts, tuple(self._told), truth_of(self.store))

    def possible(self) -> Iterator[Act]:
        """What can happen next. Of people and organizations that have not appeared, the first stands for the other."""
        state = self.store.state
        for person in PEOPLE:
            if _user(person) in state.users:
                yield "delete user", person, 0
            elif all(self._ever(_user(before)) for before in range(person)) and not self._ever(_user(person)):
                yield "create user", person, 0
        for place in PLACES:
            if _org(place) in state.organizations:
                yield "rename organization", 0, place
                yield "delete organization", 0, place
            elif all(self._ever(_org(before)) for before in range(place)) and not self._ever(_org(place)):
                yield "create organization", 0, place
                for person in PEOPLE:
                    if _user(person) in state.users:
                        yield "found organization", person, place
        for person in PEOPLE:
            for place in PLACES:
                if state.membership(_org(place), _user(person)):
                    yield "change role", person, place
                    yield "leave", person, place
                elif _user(person) in state.users and _org(place) in state.organizations:
                    yield "join", person, place

    def _do(self, what: str, person: int, place: int) -> None:
        store = self.store
        match what:
            case "create user":
                fields = {"first_name": f"Person {person}"}
                store.users.create(NewUser(email_addresses=(f"person{person}@example.test",), fields=fields))
            case "delete user":
                store.users.delete(_user(person))
            case "create organization":
                store.organizations.create(f"Place {place}")
            case "found organization":
                store.organizations.create(f"Place {place}", created_by=_user(person))
            case "rename organization":
                store.organizations.update(_org(place), {"name": f"Name {self._step}"})
            case "delete organization":
                store.organizations.delete(_org(place))
            case "join":
                organization = store.organizations.get(_org(place))
                store.memberships.create(organization, _user(person), store.roles.find(ROLES[0]))
            case "leave":
                store.memberships.delete(store.memberships.get(_org(place), _user(person)))
            case "change role":
                membership = store.memberships.get(_org(place), _user(person))
                role = store.state.roles[membership.role_id].key
                store.memberships.change_role(membership, store.roles.find(ROLES[role == ROLES[0]]))

    def _ever(self, clerk_id: str) -> bool:
        return any(f'"{clerk_id}"' in body for body in self._told)

    def _clock(self) -> int:
        return START + self._step * STEP_MS

    def _hear(self, event: Event) -> None:
        told: dict[str, Any] = {"object": "event", "type": event.type, "timestamp": event.timestamp}
        self._told.append(json.dumps(told | {"instance_id": INSTANCE, "data": event.data}))


def _user(person: int) -> str:
    return f"user_{person}{MARK}"


def _org(place: int) -> str:
    return f"org_{place}{MARK}"


def histories(most: int, *, cascade: bool, begun: tuple[Act, ...] = ()) -> Iterator[History]:
    """Every one of at most so many deliveries, each after `begun`."""
    clerk = Clerk(cascade=cascade)
    history = clerk.live(begun)
    if len(history.told) <= most:
        yield history
    if len(history.told) < most:
        for act in clerk.possible():
            yield from histories(most, cascade=cascade, begun=(*begun, act))
