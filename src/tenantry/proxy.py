"""Development only: the app answers Clerk's frontend paths itself, by asking the emulator on this machine.

So the browser sees one origin, and cookies, redirects and content security policies are those of production. Pure ASGI;
what the emulator answers is passed on as it comes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import httpx

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

PATH = "/__clerk"
log = logging.getLogger("tenantry")

_TIMEOUT = httpx.Timeout(60, connect=5).as_dict()
# RFC 9110, 7.6.1: they are about one connection. Who forwards is told by us; the emulator answers to its own name.
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade".split()
)
_OURS = frozenset((b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))


class FrontendProxy:
    """Answers everything below `path` from `{url}/__clerk`, which is an emulator's Frontend API."""

    def __init__(self, url: str, path: str = PATH) -> None:
        self._url = httpx.URL(url)
        self._path = path
        self._transport: httpx.AsyncHTTPTransport | None = None

    def serves(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether a request is for Clerk's frontend."""
        return scope["type"] == "http" and _route(scope).startswith(f"{self._path}/")

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        try:
            target = self._find_target(scope)
        except (httpx.InvalidURL, UnicodeDecodeError):
            await _refuse(send, 400, "invalid_target", "The address of this request is not valid.")
            return
        request = httpx.Request(
            scope["method"],
            target,
            headers=_forwarded(scope),
            content=_read(receive) if _has_body(scope["headers"]) else None,
            extensions={"timeout": _TIMEOUT},
        )
        try:
            response = await self._open().handle_async_request(request)
        except httpx.HTTPError as error:
            log.warning("the Clerk emulator at %s does not answer: %s", self._url, type(error).__name__)
            next_step = "Start it with `tenantry emulator` or `tenantry dev`, or unset TENANTRY_EMULATOR_URL."
            detail = f"Nothing answers at {self._url}. {next_step}"
            await _refuse(send, 502, "emulator_unavailable", "The Clerk emulator does not answer.", detail)
        except _ClientLeft:
            return
        else:
            await _pass_on(response, send)

    async def close(self) -> None:
        """Closes what is open; the next request opens anew."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    def _open(self) -> httpx.AsyncHTTPTransport:
        """A transport and no client: a client would keep one visitor's cookies for the next."""
        if self._transport is None:
            self._transport = httpx.AsyncHTTPTransport(trust_env=False)
        return self._transport

    def _find_target(self, scope: Any) -> httpx.URL:
        """The address to ask, never outside the Frontend API: dot segments stay what they are."""
        below = f"{self._path}/".encode()
        rest = scope.get("raw_path", _route(scope).encode()).partition(below)[2]
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        safe = b"/".join(b"%2E" * len(part) if part in (b".", b"..") else part for part in rest.split(b"/"))
        return self._url.copy_with(raw_path=f"{PATH}/".encode() + safe + query)


class _ClientLeft(Exception):
    pass


async def _read(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeft
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _pass_on(response: httpx.Response, send: Send) -> None:
    """The answer as it is, compressed or not. Where the emulator breaks off, so do we: the server notices."""
    headers = _without(response.headers.raw, _HOP_BY_HOP)
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    try:
        async for part in response.aiter_raw():
            await send({"type": "http.response.body", "body": part, "more_body": True})
    except httpx.HTTPError as error:
        log.warning("the Clerk emulator broke off an answer: %s", type(error).__name__)
        return
    finally:
        await response.aclose()
    await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Send, status: int, code: str, title: str, detail: str | None = None) -> None:
    problem = {"type": f"urn:tenantry:{code}", "title": title, "status": status, "code": code}
    body = json.dumps(problem | ({"detail": detail} if detail else {})).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _forwarded(scope: Any) -> list[Header]:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    told = [(b"x-forwarded-host", host), (b"x-forwarded-proto", scope["scheme"].encode())]
    if scope.get("client"):
        told.append((b"x-forwarded-for", scope["client"][0].encode()))
    return _without(scope["headers"], _HOP_BY_HOP | _OURS) + told


def _without(headers: Iterable[Header], unwanted: frozenset[bytes]) -> list[Header]:
    pairs = [(name.lower(), value) for name, value in headers]
    named = {item.strip().lower() for name, value in pairs if name == b"connection" for item in value.split(b",")}
    return [(name, value) for name, value in pairs if name not in unwanted | named]


def _has_body(headers: Iterable[Header]) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)


def _route(scope: MutableMapping[str, Any]) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
