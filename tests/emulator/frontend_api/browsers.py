"""What the tests of the person's part stand on: a served emulator, and browsers that call it as clerk-js does."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx

from emulator.world import Clock, Running
from tenantry.emulator.seed import DEFAULT_PASSWORD
from tenantry.emulator.store import Event

Json = dict[str, Any]

APP = "http://127.0.0.1:8000"  # the origin of the app's pages
CODE = "424242"


class Browser:
    """Its cookies, and a page of the app. A call gives the `response` of an answer, and keeps the `client`."""

    def __init__(self, running: Running) -> None:
        self.client: Json = {}
        # Nothing to verify on plain HTTP, and the certificates take long to load.
        self.http = httpx.Client(base_url=f"{running.url}/__clerk", headers={"origin": APP}, verify=False)

    def get(self, path: str, **query: Any) -> Any:
        return self.answer("GET", path, query=query)["response"]

    def post(self, path: str, **form: Any) -> Any:
        return self._change("POST", path, form)

    def patch(self, path: str, **form: Any) -> Any:
        return self._change("PATCH", path, form)

    def delete(self, path: str) -> Any:
        return self._change("DELETE", path, {})

    def error(self, method: str, path: str, status: int, **form: Any) -> Json:
        """The one error of an answer that must be one."""
        answer = self.answer(method, path, form, status=status)
        assert answer.keys() == {"errors", "clerk_trace_id"}
        (error,) = answer["errors"]
        assert error["message"]
        assert error["long_message"]
        return dict(error)

    def code(self, method: str, path: str, status: int, **form: Any) -> str:
        return str(self.error(method, path, status, **form)["code"])

    def answer(
        self, method: str, path: str, form: Json | None = None, *, query: Json | None = None, status: int = 200
    ) -> Any:
        """The whole answer. Every change goes as a POST, with the method meant in the query."""
        sent = method if method in ("GET", "POST") else "POST"
        meant = {"_method": method} if sent != method else {}
        data = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in (form or {}).items()}
        response = self.http.request(sent, f"/v1{path}", params=meant | (query or {}), data=data or None)
        assert response.status_code == status, response.text
        return response.json()

    def sign_in(self, name: str = "ada") -> Json:
        """By password; the session as the client then shows it."""
        sign_in = self.post("/client/sign_ins", identifier=f"{name}@example.test", password=DEFAULT_PASSWORD)
        assert sign_in["status"] == "complete"
        self.touch()
        return self.session

    @property
    def session(self) -> Json:
        id = self.client["last_active_session_id"]
        (session,) = [each for each in self.client["sessions"] if each["id"] == id]
        return dict(session)

    @property
    def path(self) -> str:
        return f"/client/sessions/{self.client['last_active_session_id']}"

    def touch(self, **form: Any) -> Json:
        return dict(self.post(f"{self.path}/touch", **form))

    def token(self, **form: Any) -> Json:
        """The claims of a fresh token."""
        return claims(self.answer("POST", f"{self.path}/tokens", form)["jwt"])

    def _change(self, method: str, path: str, form: Json) -> Any:
        answer = self.answer(method, path, form)
        self.client = answer["client"] or {}
        return answer["response"]


def claims(token: str) -> Json:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


@dataclass
class Site:
    """A served emulator with its usual people, a clock, and every event it announces."""

    running: Running
    clock: Clock
    events: list[Event] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def browser(self) -> Browser:
        browser = Browser(self.running)
        self.stack.enter_context(browser.http)
        return browser

    def heard(self) -> list[str]:
        """The types of the events since the last call."""
        types = [event.type for event in self.events]
        self.events.clear()
        return types

    def user_id(self, name: str) -> str:
        return self.running.emulator.store.users.find(f"{name}@example.test").id

    def organization_id(self, name: str) -> str:
        return self.running.emulator.store.organizations.find(name).id


SiteMaker = Callable[..., Site]
