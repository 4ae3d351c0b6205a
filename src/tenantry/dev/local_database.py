"""The database of a development run: an embedded one with an app's usual two logins, or the one that was given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tenantry.database import NOT_THIS_RELEASE, REFUSED, connect, read_url
from tenantry.dev.postgres import PostgresServer
from tenantry.errors import SchemaError

DATABASE = "app"
APP = "app"  # what the app logs in as; isolation holds for it without exception
OWNER = "app_owner"  # what migrations log in as: owns the app's tables


@dataclass(frozen=True)
class LocalDatabase:
    """Where the app connects, and where its migrations do. `label` is safe to print."""

    app_url: str
    owner_url: str
    label: str

    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.app_url, "TENANTRY_MIGRATION_URL": self.owner_url}


@contextmanager
def open_database(folder: Path) -> Iterator[LocalDatabase]:
    """A database with the tenantry schema: DATABASE_URL's where it is set, else an embedded server's in `folder`."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield _prepare_given(given)
        return
    with PostgresServer(folder) as server:
        _create(server)
        app_url = server.dsn(DATABASE, APP)
        yield LocalDatabase(app_url, server.dsn(DATABASE, OWNER), f'psql "{app_url}"')


def _prepare_given(url: str) -> LocalDatabase:
    """Installs the schema as TENANTRY_MIGRATION_URL's login where that is set, for the login of `url`."""
    from tenantry import schema

    owner_url = os.environ.get("TENANTRY_MIGRATION_URL") or url
    app, owner = read_url(url).get("user"), read_url(owner_url).get("user")
    with connect(owner_url) as connection:
        schema.install(connection, app_roles=[app] if app and app != owner else [])
    return LocalDatabase(url, owner_url, "the one in DATABASE_URL")


def _create(server: PostgresServer) -> None:
    from psycopg import sql

    from tenantry import schema

    with connect(server.dsn("postgres")) as connection:
        for login in (APP, OWNER):
            if not connection.execute("select 1 from pg_roles where rolname = %s", [login]).fetchone():
                connection.execute(sql.SQL("create role {} login").format(sql.Identifier(login)))
        if not connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
            names = sql.Identifier(DATABASE), sql.Identifier(OWNER)
            connection.execute(sql.SQL("create database {} owner {}").format(*names))
    try:
        with connect(server.dsn(DATABASE)) as connection:
            schema.install(connection, app_roles=[APP, OWNER])
    except SchemaError as error:
        if error.message not in (NOT_THIS_RELEASE, REFUSED):
            raise
        folder = server.data_dir.parent
        raise SchemaError(
            f"The data in {folder} is of another release of Tenantry.",
            detail=f"{error.message}\n{error.detail or ''}".strip(),
            hint="Delete that folder, with the rows that your app has in it, or name a new one with --data.",
        ) from None
