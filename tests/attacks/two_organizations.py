"""An app of two organizations over HTTP: every row of the first says `alpha`, every row of the second `bravo`."""

from __future__ import annotations

from typing import Any

import httpx
from fastapi import Request, WebSocket
from sqlalchemy import select

from instance import Document, World, bearer
from tenantry.fastapi import CurrentTenant

TITLES = {"org_1": "alpha", "org_2": "bravo"}
MEMBERS = {"org_1": "user_1", "org_2": "user_2"}


def build(world: World) -> None:
    """The app's routes: documents, read and written."""

    @world.app.get("/documents")
    @world.app.get("/orgs/{org}/documents")
    @world.app.get("/orgs/{_}/shared-with/orgs/{org}/documents")
    async def documents() -> list[str]:
        return await titles(world)

    @world.app.post("/documents")
    @world.app.post("/orgs/{org}/documents")
    async def create(request: Request) -> None:
        async with world.sessions.begin() as session:
            session.add(Document(title=(await request.body()).decode()))

    @world.app.get("/tenant")
    async def tenant(tenant: CurrentTenant) -> Any:
        return {"org_id": tenant.org_id, "role": tenant.role}

    @world.app.websocket("/socket")
    async def socket(websocket: WebSocket, tenant: CurrentTenant) -> None:
        await websocket.accept()


async def fill(world: World) -> None:
    """A document for each organization, written by its member."""
    for org_id in TITLES:
        answer = await world.client.post("/documents", headers=member(org_id), content=TITLES[org_id])
        assert answer.status_code == 200, answer.text


def member(org_id: str, **changes: Any) -> dict[str, str]:
    """The headers of a member's request."""
    return bearer(MEMBERS[org_id], org_id, **changes)


async def titles(world: World) -> list[str]:
    """What the running code's tenant sees."""
    async with world.sessions() as session:
        return list(await session.scalars(select(Document.title).order_by(Document.id)))


def sync_titles(world: World) -> list[str]:
    """The same, without an event loop."""
    with world.sync_sessions() as session:
        return list(session.scalars(select(Document.title).order_by(Document.id)))


def written(world: World) -> dict[str, list[str]]:
    """Every organization's titles, whoever may see them."""
    rows = world.rows(
        "select t.clerk_org_id, array_agg(d.title order by d.id) from documents as d"
        " join tenantry.tenants as t on t.id = d.tenant_id group by 1"
    )
    return dict(rows)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of what must be a problem."""
    return answer.status_code, answer.json()["code"]
