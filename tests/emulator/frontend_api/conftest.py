"""Fixtures of the Frontend API's tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from emulator.frontend_api.browsers import Browser, Site, SiteMaker
from emulator.world import Clock, Runner
from tenantry.emulator.seed import DEFAULT


@pytest.fixture
def open_site(run: Runner) -> Iterator[SiteMaker]:
    """Serves an emulator with the default people; arguments are settings of the instance."""
    with ExitStack() as stack:

        def start(**settings: object) -> Site:
            clock = Clock()
            site = Site(run(seed_data=DEFAULT, clock=clock, settings=settings), clock, stack=stack)
            site.running.emulator.store.subscribe(site.events.append)
            return site

        yield start


@pytest.fixture
def site(open_site: SiteMaker) -> Site:
    return open_site()


@pytest.fixture
def browser(site: Site) -> Browser:
    return site.browser()
