"""What the emulator's tests stand on: a store with its own clock, real servers on free ports, a webhook receiver."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tenantry.emulator.emulator import Emulator
from tenantry.emulator.store import Event, Store
from tenantry.emulator.store.users import NewUser

NOON = 1_790_000_000_000


@dataclass
class Clock:
    """Milliseconds that pass only when told to."""

    now: int = NOON

    def __call__(self) -> int:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


@dataclass
class World:
    """A store, its clock, and every event it has announced."""

    store: Store
    clock: Clock
    events: list[Event] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    def take(self) -> list[Event]:
        taken, self.events[:] = list(self.events), []
        return taken

    def user(self, name: str) -> str:
        return self.store.users.create(NewUser(email_addresses=(f"{name}@example.test",))).id


WorldMaker = Callable[..., World]


@contextmanager
def serve(app: Starlette, **config: Any) -> Iterator[str]:
    """The app at a URL of this machine, on a thread."""
    claimed = socket.socket(proto=socket.IPPROTO_TCP)  # said aloud, or asyncio leaves Nagle on: 40 ms a request
    claimed.bind(("127.0.0.1", 0))
    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "timeout_graceful_shutdown": 2, **config}
    server = uvicorn.Server(uvicorn.Config(app, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [claimed]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{claimed.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        claimed.close()


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("What the test waits for did not happen.")
        time.sleep(0.005)


@dataclass
class Receiver:
    """A webhook endpoint that remembers what it got, and answers as `answer` says (by default 200)."""

    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[int], Response] = field(default=lambda number: Response("stored"))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.requests]

    @property
    def ids(self) -> list[str]:
        return [headers["svix-id"] for headers, _ in self.requests]

    def app(self) -> Starlette:
        async def receive(request: Request) -> Response:
            self.requests.append((dict(request.headers), await request.body()))
            return self.answer(len(self.requests))

        return Starlette(routes=[Route("/webhooks", receive, methods=["POST"])])


@dataclass
class Running:
    """An emulator at a URL, and a client that has its secret key."""

    emulator: Emulator
    url: str
    api: httpx.Client

    def drain(self) -> None:
        wait_until(lambda: self.emulator.webhooks.unfinished == 0)

    def user(self, name: str, **more: Any) -> dict[str, Any]:
        return self.post("/users", {"email_address": [f"{name}@example.test"], **more})

    def organization(self, name: str, **more: Any) -> dict[str, Any]:
        return self.post("/organizations", {"name": name, **more})

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        return self._answer("POST", path, body)

    def patch(self, path: str, body: Any) -> dict[str, Any]:
        return self._answer("PATCH", path, body)

    def delete(self, path: str) -> dict[str, Any]:
        return self._answer("DELETE", path, None)

    def get(self, path: str, **query: Any) -> Any:
        response = self.api.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    def error(self, method: str, path: str, body: Any = None, status: int = 422) -> dict[str, Any]:
        """The first error of an answer that must be one."""
        response = self.api.request(method, path, json=body)
        assert response.status_code == status, response.text
        found: dict[str, Any] = response.json()["errors"][0]
        return found

    def _answer(self, method: str, path: str, body: Any) -> dict[str, Any]:
        response = self.api.request(method, path, json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


Runner = Callable[..., Running]
