"""`withTenant` of a Next.js app lives every case of the case file as the other callers do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.callers import Outcome, opened
from conformance.cases import Case, Life, make_tables, read_cases
from conformance.node import WithTenant, make_project, started
from conformance.test_callers import check
from databases import Database, Server
from sql.tenants import Connection

pytestmark = [pytest.mark.requires("node", "npm"), pytest.mark.attack(1, 2, 3)]


@pytest.fixture(scope="module")
def database(server: Server, template: str) -> Iterator[Database]:
    made = server.create(template)
    make_tables(made)
    yield made
    server.drop(made)


@pytest.fixture(scope="module")
def app(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def with_tenant(project: Path, database: Database) -> Iterator[WithTenant]:
    with started(project, database) as caller:
        yield caller


@pytest.mark.parametrize("case", read_cases(), ids=lambda case: case.name)
async def test_with_tenant_agrees_that(
    case: Case, database: Database, app: Connection, with_tenant: WithTenant
) -> None:
    outcomes = await Life(app).live(case, with_tenant)
    check("withTenant", case, outcomes)
    async with opened("plain SQL", database) as plain:
        wanted = await Life(app).live(case, plain)
    assert [_told(one) for one in outcomes] == [_told(one) for one in wanted]


def _told(outcome: Outcome) -> tuple[object, object, object]:
    """What counts in any language; an error has the same code, and a class of its own."""
    return outcome.rows or None, outcome.context, outcome.problem and outcome.problem.code
