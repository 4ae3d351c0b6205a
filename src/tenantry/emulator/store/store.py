"""The store: one instance's records, nouns by which to change them, and listeners that hear of each change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tenantry.emulator.identifiers import Identifiers
from tenantry.emulator.journal import Journal
from tenantry.emulator.settings import Assumptions
from tenantry.emulator.state import State
from tenantry.emulator.store.clients import Clients
from tenantry.emulator.store.core import Clock, Core, Listener, clock_in_milliseconds
from tenantry.emulator.store.domains import Domains
from tenantry.emulator.store.enrollments import Enrollments
from tenantry.emulator.store.handshakes import Handshakes
from tenantry.emulator.store.invitations import Invitations
from tenantry.emulator.store.membership_requests import MembershipRequests
from tenantry.emulator.store.memberships import Memberships
from tenantry.emulator.store.organizations import Organizations
from tenantry.emulator.store.roles import Permissions, Roles
from tenantry.emulator.store.sessions import Sessions
from tenantry.emulator.store.sign_ins import SignIns
from tenantry.emulator.store.sign_ups import SignUps
from tenantry.emulator.store.users import Users


class Store:
    """Rules raise `ClerkError`. Methods are synchronous and whole: call them from one thread."""

    def __init__(
        self,
        *,
        seed: int = 1,
        clock: Clock = clock_in_milliseconds,
        journal: Journal | None = None,
        settings: Mapping[str, Any] | None = None,
        assumptions: Assumptions | None = None,
    ) -> None:
        self.state = State(journal)
        if settings:
            self.state.put_settings(replace(self.state.settings, **settings))
        start = self.state.meta.get("identifiers", 0)
        identifiers = Identifiers(seed, start=start, reserve=lambda count: self.state.put_meta("identifiers", count))
        core = Core(self.state, identifiers, clock, assumptions or Assumptions())
        self.identifiers = identifiers
        self.clock = clock
        self.sessions = Sessions(core)
        self.clients = Clients(core, self.sessions)
        self.memberships = Memberships(core, self.sessions)
        self.permissions = Permissions(core)
        self.roles = Roles(core, self.permissions)
        self.organizations = Organizations(core, self.memberships, self.roles)
        self.invitations = Invitations(core, self.memberships)
        self.domains = Domains(core)
        self.enrollments = Enrollments(core, self.invitations)
        self.membership_requests = MembershipRequests(core, self.memberships)
        self.users = Users(core, self.memberships, self.sessions)
        self.sign_ins = SignIns(core, self.clients, self.sessions, self.users)
        self.sign_ups = SignUps(core, self.clients, self.users, self.invitations)
        self.handshakes = Handshakes(core)
        self._core = core
        if not self.state.roles:  # a new instance; nobody listens yet, so its own roles and permissions make no events
            self.permissions.create_system()
            self.roles.create_defaults()

    def subscribe(self, listener: Listener) -> None:
        self._core.subscribe(listener)
