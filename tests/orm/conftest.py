"""The database with two tenants' rows, and the three drivers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from databases import Server
from orm.world import DRIVERS, Driver, fill, make_tables
from sql.tenants import Tenant, World, open_world


@pytest.fixture(scope="module")
def filled(server: Server, template: str) -> Iterator[World]:
    with open_world(server, template) as world:
        make_tables(world)
        yield world


@pytest.fixture
def world(filled: World) -> World:
    """Two tenants with their rows as they were at first."""
    fill(filled)
    return filled


@pytest.fixture
def a(world: World) -> Tenant:
    return world.a


@pytest.fixture
def b(world: World) -> Tenant:
    return world.b


@pytest_asyncio.fixture(params=DRIVERS)
async def driver(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Driver]:
    """The app's login on a pool of one connection."""
    opened = Driver.open(request.param, world)
    yield opened
    await opened.dispose()
