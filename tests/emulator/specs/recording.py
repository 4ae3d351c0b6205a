"""What an API answered: every response of a client, under the route that gave it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.routing import compile_path

Routes = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """`body` is None where there is none; a body that is no JSON is its text."""

    method: str
    route: str
    status: int
    body: Any


@dataclass
class Recording:
    """Give `hear` to an httpx client as a hook; `prefix` is the path under which `routes` are mounted."""

    routes: Routes
    prefix: str
    answers: list[Answer] = field(default_factory=list)

    def hear(self, response: httpx.Response) -> None:
        request = response.request
        route = self._find_route(request.url.path)
        if route is None:
            return
        body = _read_body(response)
        # A browser sends what is neither GET nor POST as a POST that says so.
        method = request.url.params.get("_method", request.method)
        self.answers.append(Answer(method.upper(), route, response.status_code, body))

    def unheard(self) -> list[str]:
        """The operations that answered nothing but errors, or nothing at all."""
        heard = {(answer.method, answer.route) for answer in self.answers if answer.status < 400}
        return [f"{method} {path}" for method, path in operations(self.routes) if (method, path) not in heard]

    def _find_route(self, path: str) -> str | None:
        if not path.startswith(self.prefix):
            return None
        path = path.removeprefix(self.prefix)
        return next((route for route in self.routes if compile_path(route)[0].match(path)), None)


def operations(routes: Routes) -> Iterable[tuple[str, str]]:
    return ((method, path) for path, methods in routes.items() for method in methods)


def _read_body(response: httpx.Response) -> Any:
    raw = response.read()
    if not raw:
        return None
    if response.headers.get("content-type") == "application/json":  # nothing more, or Clerk's Node client reads a text
        return response.json()
    return response.text
