"""One call of the Backend API: who may make it, what it asks, how its answer or error is written."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.hosts import check_host
from tenantry.emulator.http import asking, find_handler, read_body, write_error
from tenantry.emulator.params import Body, Query, parse_json
from tenantry.emulator.ratelimit import BACKEND_API, Limit
from tenantry.emulator.store import Store

if TYPE_CHECKING:
    from tenantry.emulator.emulator import Emulator

Json = dict[str, Any] | list[dict[str, Any]] | None
Handler = Callable[["Call"], Json]
Endpoint = Callable[[Request], Awaitable[Response]]

METADATA_MOVED = "2026-05-12"  # the version from which PATCH of users and organizations takes no metadata
_VERSIONS = ("2021-02-05", "2024-10-01", "2025-04-10", "2025-11-10", METADATA_MOVED)


@dataclass(frozen=True, slots=True)
class Call:
    emulator: Emulator
    path: dict[str, str]
    query: Query
    content: Any
    version: str
    origin: str | None = None

    @property
    def store(self) -> Store:
        return self.emulator.store

    @property
    def body(self) -> Body:
        if not isinstance(self.content, dict):
            raise ClerkError(400, "request_body_invalid", "The request body must be a JSON object.")
        return Body(self.content)

    def limit(self, limit: Limit, key: str) -> None:
        self.emulator.limiter.count(limit, key)


def create_endpoint(
    emulator: Emulator, handlers: dict[str, Handler], *, limited: bool = True, about_organizations: bool = False
) -> Endpoint:
    """An endpoint that answers each method of `handlers`; a handler that returns None answers 204."""

    async def answer(request: Request) -> Response:
        try:
            check_host(request, emulator.store.state.settings.allowed_origins)
            _authenticate(request, emulator.instance.secret_key)
            if limited:
                emulator.limiter.count(BACKEND_API, "")
            if about_organizations:
                emulator.store.organizations.check_enabled()
            handler = find_handler(handlers, request.method)
            content = parse_json(await read_body(request))
            call = Call(
                emulator=emulator,
                path=dict(request.path_params),
                query=Query(request.query_params),
                content=content,
                version=_version(request),
                origin=request.headers.get("origin"),
            )
            return _handle(handler, call, request)
        except ClerkError as error:
            return write_error(error, emulator.store.identifiers.hex(32))

    return answer


def _handle(handler: Handler, call: Call, request: Request) -> Response:
    with asking(request):
        content = handler(call)
    return Response(status_code=204) if content is None else JSONResponse(content)


def _authenticate(request: Request, secret_key: str) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        message = "The Authorization header must hold Bearer and the secret key of this instance."
        raise ClerkError(401, "authentication_invalid", message)
    if not hmac.compare_digest(key.strip().encode(), secret_key.encode()):
        raise ClerkError(401, "clerk_key_invalid", "The secret key is not the one of this instance.")


def _version(request: Request) -> str:
    """Clerk's API version: by header or by query, not both."""
    header, query = request.headers.get("clerk-api-version"), request.query_params.get("__clerk_api_version")
    if header and query:
        message = "Give the API version as a header or as a query parameter, not both."
        raise ClerkError(400, "api_version_conflict", message)
    version = header or query or _VERSIONS[-1]
    if version not in _VERSIONS:
        message = f"There is no such API version; use one of {', '.join(_VERSIONS)}."
        raise ClerkError(400, "api_version_invalid", message)
    return version
