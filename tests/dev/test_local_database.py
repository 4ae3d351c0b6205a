"""A development run's database has this release's schema, or it is said what to do."""

from __future__ import annotations

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


def test_data_of_another_release_is_named_with_what_to_do(open_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    folder = open_tmp_path / ".tenantry" / "postgres"
    with open_database(folder):
        pass
    with PostgresServer(folder) as server, connect(server.dsn(DATABASE)) as connection:
        connection.execute(AN_OLDER_ONE)
    with pytest.raises(SchemaError, match=r"(?s)of another release.*followers.*Delete that folder.* --data") as caught:
        open_database(folder).__enter__()
    assert str(folder.parent) in caught.value.message


def test_what_has_another_cause_is_not_to_be_deleted(open_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    folder = open_tmp_path / ".tenantry" / "postgres"
    with open_database(folder):
        pass
    with PostgresServer(folder) as server, connect(server.dsn(DATABASE)) as connection:
        connection.execute("alter role app bypassrls")
    with pytest.raises(SchemaError) as caught:
        open_database(folder).__enter__()
    assert "Delete" not in str(caught.value.hint)
