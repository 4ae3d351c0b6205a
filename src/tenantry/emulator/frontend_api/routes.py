"""The routes of the Frontend API, and what is answered where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.frontend_api import clients
from tenantry.emulator.frontend_api.call import Handler, create_endpoint
from tenantry.emulator.http import write_error

if TYPE_CHECKING:
    from tenantry.emulator.emulator import Emulator

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

# In order: a fixed path stands before one with a parameter in its place.
ROUTES: dict[str, dict[str, Handler]] = {
    "/v1/client": {"GET": clients.get, "PUT": clients.create, "POST": clients.create, "DELETE": clients.delete},
}
# Answered as they are, without `response` and `client` around them.
BARE: dict[str, dict[str, Handler]] = {}


def create_app(emulator: Emulator) -> Starlette:
    """To be mounted at `/__clerk`, where Clerk's SDKs look for a proxied Frontend API."""
    routes = [
        Route(path, create_endpoint(emulator, handlers, wrapped=table is ROUTES), methods=_METHODS)
        for table in (ROUTES, BARE)
        for path, handlers in table.items()
    ]

    async def show_keys(request: Request) -> Response:
        return JSONResponse(emulator.instance.jwks)

    async def find_nothing(request: Request, error: Exception) -> Response:
        missing = ClerkError(404, "resource_not_found", "The emulator's Frontend API has no such path.")
        return write_error(missing, emulator.store.identifiers.hex(32))

    routes.append(Route("/.well-known/jwks.json", show_keys))
    app = Starlette(routes=routes, exception_handlers={404: find_nothing})
    app.router.redirect_slashes = False
    return app
