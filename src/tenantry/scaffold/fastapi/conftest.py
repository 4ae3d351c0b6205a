"""How the tables are made, and how the app is run; the rest is `tenantry.testing`'s."""

import pytest
from fastapi.testclient import TestClient


@pytest.fixture(scope="session")
def tenantry_migrate():
    return "alembic upgrade head"


@pytest.fixture
def client(tenantry_database):
    from main import app

    with TestClient(app) as running:
        yield running
