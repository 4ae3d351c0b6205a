"""The emulator's two APIs, each with its routes and the specification it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from emulator.specs.recording import Routes
from emulator.specs.specification import Specification, load
from tenantry.emulator.backend_api import routes as backend
from tenantry.emulator.frontend_api import routes as frontend

Name = Literal["backend", "frontend", "webhooks"]
FILES: dict[Name, str] = {
    "backend": "bapi-2026-05-12",
    "frontend": "fapi-2026-05-12",
    "webhooks": "webhooks-2025-04-15",
}


@dataclass(frozen=True)
class Api:
    """`routes` are as in the specification, and mounted at `prefix`."""

    name: Name
    title: str
    prefix: str
    routes: Routes

    @property
    def specification(self) -> Specification:
        return load(FILES[self.name])


BACKEND = Api("backend", "Backend API", "/v1", backend.ROUTES | backend.UNLIMITED)
FRONTEND = Api(
    "frontend",
    "Frontend API",
    "/__clerk",
    # A path may stand in both tables, with a method in each; the keys stand beside them.
    {path: frontend.ROUTES.get(path, {}) | frontend.BARE.get(path, {}) for path in frontend.ROUTES | frontend.BARE}
    | {"/.well-known/jwks.json": {"GET": None}},
)
