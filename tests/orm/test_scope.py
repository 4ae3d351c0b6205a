"""Who a session works for follows the running code: tasks inherit it, threads of one's own have to be told."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from orm.world import Document, Driver, acting, own, titles
from sql.tenants import Tenant, World
from tenantry.context import tenant_context
from tenantry.errors import NoTenant
from tenantry.sqlalchemy import scoped


@pytest.mark.parametrize("name", ["psycopg", "asyncpg"])
async def test_an_async_session_is_used_as_ever(world: World, a: Tenant, name: str) -> None:
    engine = create_async_engine(world.database.url(driver=name))
    sessions = scoped(async_sessionmaker(engine, expire_on_commit=False))
    with acting(a):
        async with sessions.begin() as session:
            session.add(Document(title="alpha three"))
        async with sessions() as session:
            document = (await session.scalars(select(Document).where(Document.title == "alpha three"))).one()
            await session.refresh(document, ["author"])
            streamed = [row.title async for row in await session.stream_scalars(select(Document))]
            await session.delete(document)
            await session.commit()
            assert sorted(streamed) == ["alpha one", "alpha three", "alpha two"]
            assert len((await session.scalars(select(Document))).all()) == 2
    async with sessions() as session:
        with pytest.raises(NoTenant):
            await session.get(Document, 1)
    await engine.dispose()


@pytest.mark.attack(53)
@pytest.mark.parametrize("name", ["psycopg", "asyncpg"])
async def test_tasks_work_for_whom_they_were_made(world: World, a: Tenant, b: Tenant, name: str) -> None:
    engine = create_async_engine(world.database.url(driver=name), pool_size=2)
    sessions = scoped(async_sessionmaker(engine))

    async def read() -> list[str]:
        session: AsyncSession
        async with sessions() as session:
            return sorted(await session.scalars(select(Document.title)))

    made = []
    for tenant in (a, b) * 4:
        with acting(tenant):
            made.append(asyncio.create_task(read()))
    assert await asyncio.gather(*made) == [own(a), own(b)] * 4
    await engine.dispose()


@pytest.mark.attack(54)
def test_a_thread_of_ones_own_fails_closed(world: World, a: Tenant, b: Tenant) -> None:
    driver = Driver.open("psycopg", world)

    def read() -> list[str]:
        with driver.factory()() as session:
            return titles(session)

    def read_for(tenant: Tenant) -> list[str]:
        with tenant_context(tenant.id, reason="a test"):
            return read()

    with ThreadPoolExecutor(1) as pool, acting(a):
        with pytest.raises(NoTenant):
            pool.submit(read).result()
        assert pool.submit(contextvars.copy_context().run, read).result() == own(a)
        assert pool.submit(read_for, b).result() == own(b)
        with pytest.raises(NoTenant):  # nothing stays with the worker
            pool.submit(read).result()
    driver.sync_engine.dispose()


async def test_a_thread_that_asyncio_starts_inherits_the_tenant(world: World, a: Tenant) -> None:
    driver = Driver.open("psycopg", world)

    def read() -> list[str]:
        with driver.factory()() as session:
            return titles(session)

    with acting(a):
        assert await asyncio.to_thread(read) == own(a)
    await driver.dispose()
