"""A development run's database has this release's schema, or it is said what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tenantry.database import connect
from tenantry.dev.local_database import DATABASE, open_database
from tenantry.dev.postgres import PostgresServer
from tenantry.errors import SchemaError

AN_OLDER_ONE = """
drop table tenantry.followers cascade;
comment on table tenantry.migrations is null;
"""


def reopen(folder: Path, statements: str) -> SchemaError:
    """Why a run's data cannot be used again after these statements."""
    with open_database(folder):
        pass
    with PostgresServer(folder) as server, connect(server.dsn(DATABASE)) as connection:
        connection.execute(statements)
    with pytest.raises(SchemaError) as caught, open_database(folder):
        pass
    return caught.value


@pytest.fixture
def folder(open_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return open_tmp_path / ".tenantry" / "postgres"


def test_data_of_another_release_is_named_with_what_to_do(folder: Path) -> None:
    error = reopen(folder, AN_OLDER_ONE)
    assert re.search(r"(?s)of another release.*followers.*Delete that folder.* --data", str(error))
    assert str(folder.parent) in error.message


def test_what_has_another_cause_is_not_to_be_deleted(folder: Path) -> None:
    assert "Delete" not in str(reopen(folder, "alter role app bypassrls").hint)
