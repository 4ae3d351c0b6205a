"""What the tests of organizations stand on: an emulator in this process, people, and the browser of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.testclient import TestClient

from emulator.world import Clock
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
        self._http = TestClient(create_app(emulator), cookies={"__client": client.secret})

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, query=query)["response"]

    def post(self, path: str, **form: Any) -> Any:
        return self.call("POST", path, form)["response"]

    def patch(self, path: str, **form: Any) -> Any:
        return self.call("PATCH", path, form)["response"]

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)["response"]

    def touch(self, organization_id: str) -> Any:
        return self.post(f"/client/sessions/{self.session_id}/touch", active_organization_id=organization_id)

    def call(self, method: str, path: str, form: Json | None = None, query: Json | None = None) -> Any:
        """The whole answer."""
        response = self._http.request(method, f"/v1{path}", data=form, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    def refusal(self, method: str, path: str, status: int, **form: Any) -> str:
        """The code of an error that must be given with this status."""
        return str(self.error(method, path, status, **form)["code"])

    def error(self, method: str, path: str, status: int, **form: Any) -> Json:
        response = self._http.request(method, f"/v1{path}", data=form)
        assert response.status_code == status, response.text
        error: Json = response.json()["errors"][0]
        return error

    def upload(self, path: str, content: bytes, status: int = 200) -> Any:
        response = self._http.put(f"/v1{path}", files={"file": ("logo", content)})
        assert response.status_code == status, response.text
        return response.json()

    def status_of(self, method: str, path: str, form: Json) -> int:
        return self._http.request(method, f"/v1{path}", data=form).status_code


@dataclass
class Office:
    """An empty instance, without personal accounts unless told otherwise, and every event it has announced."""

    emulator: Emulator
    clock: Clock
    events: list[Event] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        """Of the events since the last look, but for those about browsers and people."""
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
