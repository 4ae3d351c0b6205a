"""A running app with handlers of changes, and how far each of them is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from databases import Database
from instance import World, settings
from tenantry.fastapi import Tenantry


@asynccontextmanager
async def telling(database: Database, register: Callable[[World], None], **changes: Any) -> AsyncIterator[World]:
    """A running app whose handlers `register` made before it began."""
    tenancy = Tenantry(settings(database, **changes))
    app = FastAPI()
    tenancy.install(app)
    engine = create_async_engine(database.url(driver="asyncpg"), pool_size=4, max_overflow=0)
    sync_engine = create_engine(database.url(), pool_size=4, max_overflow=0)
    world = World(
        *(database, tenancy, app, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test")),
        sessions=tenancy.scoped(async_sessionmaker(engine, expire_on_commit=False)),
        sync_sessions=tenancy.scoped(sessionmaker(sync_engine, expire_on_commit=False)),
    )
    register(world)
    async with world.client, tenancy.lifespan(app):
        yield world
    await engine.dispose()
    sync_engine.dispose()


async def until(holds: Callable[[], Any], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


def titles(world: World) -> list[str]:
    return [title for (title,) in world.rows("select title from documents order by title")]


def consumer(world: World, name: str) -> Any:
    """A row of `tenantry changes list`."""
    [(listed,)] = world.rows("select tenantry.list_consumers_v1()")
    return {one["name"]: one for one in listed}[name]
