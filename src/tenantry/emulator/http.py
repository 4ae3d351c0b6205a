"""What the emulator's APIs do alike with HTTP: read a body, remember who asked, write an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.store import HttpRequest, http_request

H = TypeVar("H")
_MAX_BODY = 1 << 20


async def read_body(request: Request) -> bytes:
    """ClerkError 413 beyond a mebibyte, 400 when the client breaks off."""
    read = bytearray()
    try:
        async for chunk in request.stream():
            read += chunk
            if len(read) > _MAX_BODY:
                raise ClerkError(413, "request_body_too_large", f"The request body is larger than {_MAX_BODY} bytes.")
    except ClientDisconnect:
        raise ClerkError(400, "request_body_invalid", "The client went away before the body was whole.") from None
    return bytes(read)


@contextmanager
def asking(request: Request) -> Iterator[None]:
    """Events of changes made inside name this request."""
    client = request.client.host if request.client else ""
    token = http_request.set(HttpRequest(client, request.headers.get("user-agent", "")))
    try:
        yield
    finally:
        http_request.reset(token)


def write_error(error: ClerkError, trace_id: str) -> Response:
    headers = {"retry-after": str(error.retry_after)} if error.retry_after is not None else None
    return JSONResponse(error.body(trace_id), error.status, headers)


def find_handler(handlers: Mapping[str, H], method: str) -> H:
    """The one for this method. ClerkError 405 naming those there are."""
    handler = handlers.get(method)
    if handler is None:
        raise ClerkError(405, "method_not_allowed", f"{method} is not allowed here; use {', '.join(handlers)}.")
    return handler
