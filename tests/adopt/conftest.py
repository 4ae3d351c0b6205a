"""What the tests of moves share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from databases import Database, Server
from instance import fresh_database

pytest.register_assert_rewrite("adopt.comparing", "adopt.worlds")


@pytest.fixture
def one_database(servers: Callable[[int], Server]) -> Iterator[Database]:
    """Of one version of PostgreSQL, for what takes long."""
    with fresh_database(servers) as database:
        yield database
