"""The emulator as an ASGI application.

    emulator = Emulator(webhook_urls=["http://127.0.0.1:8000/webhooks/clerk"])
    environment = emulator.environment("http://127.0.0.1:4010")    # what the app under development needs
    uvicorn.run(create_app(emulator), host="127.0.0.1", port=4010)

The Backend API is at `/v1`, as at api.clerk.com; the Frontend API is at `/__clerk`, where Clerk's SDKs look for a
proxied one: both have a `/v1/organizations`. The emulator's own controls are at `/emulator`, their page at `/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tenantry.emulator import backend_api, control, frontend_api
from tenantry.emulator.bundles import Bundles
from tenantry.emulator.emulator import Emulator


def create_app(emulator: Emulator, *, app_url: str | None = None) -> Starlette:
    """Serves the emulator and, while it runs, delivers its webhooks.

    `app_url` is where the app under development is, for the control page; without it it is where webhooks go.
    """
    controls = control.Controls(emulator, app_url)
    bundles = Bundles()

    @asynccontextmanager
    async def deliver(app: Starlette) -> AsyncIterator[None]:
        worker = asyncio.create_task(emulator.webhooks.run())
        try:
            yield
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker

    async def keys(request: Request) -> Response:
        return JSONResponse(emulator.instance.jwks)

    routes = [
        Route("/.well-known/jwks.json", keys),
        Mount("/v1", backend_api.create_app(emulator)),
        Mount("/__clerk", frontend_api.create_app(emulator, bundles)),
        Mount("/emulator", control.create_api(controls)),
        Mount("/", control.create_page(controls, bundles)),
    ]
    return Starlette(routes=routes, lifespan=deliver)
