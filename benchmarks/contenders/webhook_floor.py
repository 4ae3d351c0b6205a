"""The floor of a webhook endpoint: a bare ASGI app, the HMAC by hand, one upsert and its commit."""

from __future__ import annotations

import base64
import hmac
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import orjson

UPSERT = """
    insert into memberships (id, org_id, user_id, role, permissions, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (id) do update
    set role = excluded.role, permissions = excluded.permissions, updated_at = excluded.updated_at
    where memberships.updated_at <= excluded.updated_at
"""
ASGI = Callable[[dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


def with_one_upsert() -> ASGI:
    """One row written and committed for each delivery."""
    pool: asyncpg.Pool[Any]

    async def open_pool() -> None:
        nonlocal pool
        pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10, reset=_keep)

    async def write(body: bytes) -> None:
        await pool.execute(UPSERT, *_row(orjson.loads(body)))

    return _app(open_pool, write)


def without_database() -> ASGI:
    """What HTTP and the HMAC cost alone."""

    async def nothing(*_: object) -> None:
        return None

    return _app(nothing, nothing)


async def _keep(connection: object) -> None:
    """No reset: nothing is set on these connections."""


def _row(event: dict[str, Any]) -> tuple[Any, ...]:
    data = event["data"]
    return (
        data["id"],
        data["organization"]["id"],
        data["public_user_data"]["user_id"],
        data["role"],
        data["permissions"],
        data["created_at"],
        data["updated_at"],
    )


def _app(start: Callable[[], Awaitable[None]], handle: Callable[[bytes], Awaitable[None]]) -> ASGI:
    key = base64.b64decode(os.environ["CLERK_WEBHOOK_SIGNING_SECRET"].removeprefix("whsec_"))

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        genuine = _is_genuine(key, dict(scope["headers"]), body)
        if genuine:
            await handle(body)
        answer = b"ok" if genuine else b"no"
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200 if genuine else 400, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def _is_genuine(key: bytes, headers: dict[bytes, bytes], body: bytes) -> bool:
    message_id, sent_at = headers[b"svix-id"], headers[b"svix-timestamp"]
    if abs(time.time() - int(sent_at)) > 300:
        return False
    mac = base64.b64encode(hmac.digest(key, b"%b.%b.%b" % (message_id, sent_at, body), "sha256"))
    signatures = headers[b"svix-signature"].split(b" ")
    return any(hmac.compare_digest(signature, b"v1," + mac) for signature in signatures)
