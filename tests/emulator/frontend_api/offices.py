"""What the tests of organizations stand on: an emulator in this process, people, and the browser of each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx

from emulator.world import Clock
from tenantry.emulator.bundles import Bundles
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.frontend_api import create_app
from tenantry.emulator.seed import EMPTY
from tenantry.emulator.store import Event
from tenantry.emulator.store.users import NewUser

Json = dict[str, Any]


class Browser:
    """One at which `user_id` is signed in; calls give the `response` of an answer, which must be one."""

    def __init__(self, emulator: Emulator, user_id: str) -> None:
        self.user_id = user_id
        self.session_id = emulator.store.clients.sign_in(client := emulator.store.clients.create(), user_id).id
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(emulator, Bundles())),
            base_url="http://127.0.0.1/v1",
            cookies={"__client": client.secret},
        )

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, params=query)["response"]

    def post(self, path: str, **form: Any) -> Any:
        return self.call("POST", path, data=form)["response"]

    def patch(self, path: str, **form: Any) -> Any:
        return self.call("PATCH", path, data=form)["response"]

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)["response"]

    def touch(self, organization_id: str) -> Any:
        return self.post(f"/client/sessions/{self.session_id}/touch", active_organization_id=organization_id)

    def call(self, method: str, path: str, **more: Any) -> Any:
        """The whole answer."""
        response = self.send(method, path, **more)
        assert response.status_code == 200, response.text
        return response.json()

    def refusal(self, method: str, path: str, status: int, **form: Any) -> str:
        """The code of an error that must be given with this status."""
        return str(self.error(method, path, status, **form)["code"])

    def error(self, method: str, path: str, status: int, **form: Any) -> Json:
        response = self.send(method, path, data=form)
        assert response.status_code == status, response.text
        error: Json = response.json()["errors"][0]
        return error

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A change is sent as clerk-js sends it: as a POST that says in its query what is meant."""
        if method not in ("GET", "POST"):
            more["params"] = {"_method": method}
            method = "POST"
        return asyncio.run(self._http.request(method, path, **more))


@dataclass
class Office:
    """An empty instance, without personal accounts unless told otherwise, and every event it has announced."""

    emulator: Emulator
    clock: Clock
    events: list[Event] = field(default_factory=list)

    def heard(self) -> list[str]:
        """The types of the events since the last call, but for those about sessions and people."""
        taken = [each.type for each in self.events if not each.type.startswith(("session.", "user."))]
        self.events.clear()
        return taken

    def person(self, name: str, *, at: str = "example.test") -> Browser:
        user = self.emulator.store.users.create(NewUser(email_addresses=(f"{name}@{at}",), fields={"first_name": name}))
        return Browser(self.emulator, user.id)

    def organization(self, admin: Browser, name: str = "Acme") -> str:
        return str(admin.post("/organizations", name=name)["id"])

    def join(self, organization_id: str, name: str, role: str = "org:member", *, at: str = "example.test") -> Browser:
        """A new person, who is a member."""
        browser, store = self.person(name, at=at), self.emulator.store
        store.memberships.create(store.organizations.get(organization_id), browser.user_id, store.roles.find(role))
        return browser


def open_office(**settings: Any) -> Office:
    clock = Clock()
    emulator = Emulator(seed_data=EMPTY, clock=clock, settings={"max_allowed_memberships": 0, **settings})
    office = Office(emulator, clock)
    emulator.store.subscribe(office.events.append)
    return office
