"""The snippets of the page on SQLAlchemy, run in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine

from databases import APP, OWNER, Database
from sql.tenants import make_tenant

PAGE = Path(__file__).parents[2] / "docs" / "sqlalchemy.md"


@pytest.fixture
def snippets(database: Database) -> Iterator[dict[str, Any]]:
    """The names all snippets of the page define, on tables made as their migration makes them."""
    names: dict[str, Any] = {"__name__": "page", "database_url": database.url(APP)}
    for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)):
        exec(compile(snippet, f"{PAGE.name}, snippet {number}", "exec", dont_inherit=True), names)
    engine = create_engine(database.url(OWNER))
    with engine.begin() as connection:
        names["Base"].metadata.create_all(connection)
        with Operations.context(MigrationContext.configure(connection)):
            names["upgrade"]()
    yield names
    names["Base"].registry.dispose()
    engine.dispose()


async def test_the_snippets_of_the_page_work(snippets: dict[str, Any], database: Database) -> None:
    tenant = make_tenant(database, "alpha")
    snippets["test_a_document_is_saved"](tenant.id)
    assert await snippets["count_documents"](tenant.id) == 0
    await snippets["engine"].dispose()


def test_the_migration_of_the_page_is_what_autogenerate_would_write(
    snippets: dict[str, Any], database: Database
) -> None:
    engine = create_engine(database.url(OWNER))
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, snippets["Base"].metadata) == []
        with Operations.context(context):
            snippets["downgrade"]()
        assert {change[0] for change in compare_metadata(context, snippets["Base"].metadata)} >= {"isolate_table"}
    engine.dispose()
