"""Fixtures of the emulator's tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from emulator.world import Clock, Receiver, Runner, Running, World, WorldMaker, serve
from tenantry.emulator.app import create_app
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.seed import EMPTY
from tenantry.emulator.settings import Assumptions
from tenantry.emulator.store import Store


@pytest.fixture
def make_world() -> WorldMaker:
    def make(assumptions: Assumptions | None = None, **settings: Any) -> World:
        clock = Clock()
        world = World(Store(clock=clock, settings=settings, assumptions=assumptions), clock)
        world.store.subscribe(world.events.append)
        return world

    return make


@pytest.fixture
def world(make_world: WorldMaker) -> World:
    return make_world()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    with serve(receiver.app()) as url:
        receiver.url = f"{url}/webhooks"
        yield receiver


@pytest.fixture
def run() -> Iterator[Runner]:
    """Starts emulators; empty ones unless `seed_data` is given."""
    with ExitStack() as stack:

        def start(**options: Any) -> Running:
            emulator = Emulator(**{"seed_data": EMPTY, **options})
            stack.callback(emulator.close)
            url = stack.enter_context(serve(create_app(emulator)))
            headers = {"authorization": f"Bearer {emulator.instance.secret_key}"}
            api = stack.enter_context(httpx.Client(base_url=f"{url}/v1", headers=headers))
            return Running(emulator, url, api)

        yield start
