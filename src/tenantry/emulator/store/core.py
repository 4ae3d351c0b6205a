"""Creating, updating and deleting records: each tells the listeners, so that no rule above can forget an event."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tenantry.emulator import render
from tenantry.emulator.identifiers import Identifiers
from tenantry.emulator.records import Invitation, Membership, Record, Session
from tenantry.emulator.settings import Assumptions
from tenantry.emulator.state import State

R = TypeVar("R", bound=Record)
Clock = Callable[[], int]

_EVENT_NAMES = {
    "user": "user",
    "organization": "organization",
    "membership": "organizationMembership",
    "invitation": "organizationInvitation",
    "domain": "organizationDomain",
    "role": "role",
    "permission": "permission",
    "session": "session",
}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """Who asked for a change; empty when no HTTP request did, as at Clerk."""

    client_ip: str = ""
    user_agent: str = ""


http_request: ContextVar[HttpRequest] = ContextVar("http_request")


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: `type` as in Clerk's catalogue, `timestamp` in milliseconds, `data` as JSON takes it."""

    type: str
    timestamp: int
    data: dict[str, Any]
    request: HttpRequest


Listener = Callable[[Event], None]
Follower = Callable[[Any], None]


def clock_in_milliseconds() -> int:
    return time.time_ns() // 1_000_000


class Core:
    """State, clock and identifiers of one instance, and the three changes a record can undergo."""

    def __init__(self, state: State, identifiers: Identifiers, clock: Clock, assumptions: Assumptions) -> None:
        self.state = state
        self.identifiers = identifiers
        self.clock = clock
        self.assumptions = assumptions
        self._listeners: list[Listener] = []
        self._on_change: defaultdict[str, list[Follower]] = defaultdict(list)
        self._on_deletion: defaultdict[str, list[Follower]] = defaultdict(list)

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def follow(
        self, record_type: type[Record], *, changed: Follower | None = None, deleted: Follower | None = None
    ) -> None:
        """Rules about other records: called with each one created or updated, or deleted, after the listeners."""
        if changed:
            self._on_change[record_type.kind].append(changed)
        if deleted:
            self._on_deletion[record_type.kind].append(deleted)

    def create(self, record: R) -> R:
        self.state.put(record)
        self._announce("pending" if isinstance(record, Session) and record.status == "pending" else "created", record)
        self._pass_on(record, self._on_change)
        return record

    def update(self, record: R, *, announce: bool = True, **changes: Any) -> R:
        """The record with `changes`, and a newer `updated_at` unless one of them is that."""
        changed = replace(record, **{"updated_at": self._later_than(record.updated_at), **changes})
        self.state.put(changed)
        if announce:
            self._announce(_update_name(changed), changed)
        self._pass_on(changed, self._on_change)
        return changed

    def delete(self, record: Record, *, announce: bool = True) -> None:
        """The event of a membership holds all of it, and an organization that no longer counts it."""
        if not isinstance(record, Membership):
            self.state.drop(record)
            data = render.deleted(record)
        else:
            data = render.membership(self.state, record)
            self.state.drop(record)
            data["organization"] = render.organization(self.state, self.state.organizations[record.organization_id])
        if announce:
            self._send(record, "deleted", data)
        self._pass_on(record, self._on_deletion)

    def recount(self, organization_id: str) -> None:
        """Called when an organization's members or invitations have changed in number."""
        if self.assumptions.organization_updated_on_counts:
            self.update(self.state.organizations[organization_id])

    def _pass_on(self, record: Record, followers: defaultdict[str, list[Follower]]) -> None:
        for follower in followers.get(record.kind, ()):
            follower(record)

    def _announce(self, change: str, record: Record) -> None:
        if record.kind in _EVENT_NAMES:  # of browsers, sign-ins and their tokens Clerk tells nothing
            self._send(record, change, render.event_data(self.state, record, now=self.clock()))

    def _send(self, record: Record, change: str, data: dict[str, Any]) -> None:
        timestamp = max(self.clock(), record.updated_at)
        request = http_request.get(HttpRequest())
        event = Event(f"{_EVENT_NAMES[record.kind]}.{change}", timestamp, data, request)
        for listener in self._listeners:
            listener(event)

    def _later_than(self, before: int) -> int:
        now = self.clock()
        return now if self.assumptions.equal_timestamps else max(now, before + 1)


def _update_name(record: Record) -> str:
    if isinstance(record, Invitation):
        return record.status
    if isinstance(record, Session):
        return "created" if record.status == "active" else record.status
    return "updated"
