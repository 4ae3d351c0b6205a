"""How the tables are made, and how the app is run; the rest is `tenantry.testing`'s."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from documents.main import app
from tenantry.testing import Database


@pytest.fixture(scope="session")
def tenantry_migrate() -> str:
    return "alembic upgrade head"


@pytest.fixture
def client(tenantry_database: Database) -> Iterator[TestClient]:
    with TestClient(app) as running:
        yield running
