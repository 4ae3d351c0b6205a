"""The page on what stays open: its app runs, and ends what the page says it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from databases import Database, Server
from instance import Socket, World, bearer, fresh_database, joined, now_ms, removed, serving, token
from snippets import blocks
from tenantry.fastapi import CurrentTenant, requires

PAGE = "docs/streams.md"


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


def build(world: World) -> None:
    given = {"app": world.app, "asyncio": asyncio, "CurrentTenant": CurrentTenant, "requires": requires}
    exec(compile("\n".join(blocks(PAGE, "python")), PAGE, "exec"), given)


def demoted() -> Any:
    told = joined() | {"type": "organizationMembership.updated", "timestamp": now_ms()}
    told["data"] |= {"role": "org:guest", "updated_at": now_ms()}
    return told


@pytest.mark.parametrize(("path", "claims"), [("/live", {}), ("/pro", {"pla": "o:pro"})])
async def test_the_pages_websockets_end_with_the_membership(database: Database, path: str, claims: Any) -> None:
    async with serving(database, build) as world:
        await world.deliver(joined())
        socket = Socket(world.app, path, bearer(**claims))
        assert (await socket.next())["type"] == "websocket.accept"
        assert (await socket.send("hello"))["text"] == "hello"
        await world.deliver(removed())
        assert await socket.next() == {"type": "websocket.close", "code": 1008, "reason": "not_a_member"}
        await socket.close()


async def test_the_pages_own_rule_refuses_at_once(database: Database) -> None:
    async with serving(database, build) as world:
        await world.deliver(joined())
        socket = Socket(world.app, "/pro", bearer(pla=None))
        assert await socket.next() == {"type": "websocket.close", "code": 1008, "reason": "permission_denied"}
        await socket.close()


async def test_the_pages_events_end_with_the_permission(database: Database) -> None:
    async with serving(database, build) as world:
        await world.deliver(joined())
        may_read: Any = {"fea": "o:documents", "o": {"id": "org_1", "rol": "member", "per": "read", "fpm": "1"}}
        held = token(**may_read)
        streaming = asyncio.create_task(world.client.get("/events", headers={"Authorization": f"Bearer {held}"}))
        await asyncio.sleep(1.5)
        await world.deliver(demoted())
        answer = await asyncio.wait_for(streaming, 10)  # it ended as if the app had finished
        assert answer.text.startswith("data: tick\n\n")
        again = await world.client.get("/events", headers={"Authorization": f"Bearer {held}"})
        assert (again.status_code, again.json()["code"]) == (403, "permission_denied")
