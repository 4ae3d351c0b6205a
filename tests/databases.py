"""Databases for tests: a server per PostgreSQL version, and a fresh copy of a template database per test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from tenantry.dev.binaries import find_binaries
from tenantry.dev.postgres import PostgresServer

SUPERUSER = "postgres"
APP = "app_login"  # what an app logs in as: no right but those the schema grants
OWNER = "app_owner"  # what an app migrates as: owns its tables, no superuser
SUPPORTED = range(15, 19)
VERSIONS = (SUPPORTED[0], SUPPORTED[-1])  # run unless `--pg` names others: both ends
ANY = 0  # where one version will do: the newest that is run

UNSAFE_AND_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
}


@dataclass(frozen=True)
class Database:
    """One database of a test server, and how to reach it as each of the three logins."""

    name: str
    server: Server

    superuser = SUPERUSER
    app = APP
    owner = OWNER

    def dsn(self, user: str = APP) -> str:
        """For psycopg and asyncpg alike."""
        return self.server.postgres.dsn(self.name, user)

    def url(self, user: str = APP, driver: str = "psycopg") -> str:
        """For SQLAlchemy; `driver` is `psycopg` or `asyncpg`."""
        where = urlencode({"host": str(self.server.postgres.socket_dir), "port": self.server.postgres.port})
        return f"postgresql+{driver}://{quote(user)}@/{self.name}?{where}"

    def connect(self, user: str = APP, *, autocommit: bool = True, **options: Any) -> psycopg.Connection[Any]:
        """A new connection; close it, or use it in a `with`."""
        return psycopg.connect(self.dsn(user), autocommit=autocommit, **options)


@dataclass(frozen=True)
class Server:
    """A running server of one major version with the test logins."""

    version: int
    postgres: PostgresServer
    _numbers: count[int] = field(default_factory=count, repr=False)

    def create(self, template: str = "template0") -> Database:
        """A fresh database, a copy of `template`, in tens of milliseconds."""
        name = f"test_{next(self._numbers)}"
        self._run("create database {} template {} strategy file_copy", name, template)
        return self._open(name)

    def make_template(self, name: str, fill: Callable[[Database], None]) -> None:
        """A database to copy from, filled once."""
        self._run("create database {}", name)
        fill(self._open(name))

    def drop(self, database: Database) -> None:
        """Also when a test left connections open."""
        self._run("drop database if exists {} with (force)", database.name)

    def create_logins(self) -> None:
        for login in (APP, OWNER):
            self._run("create role {} login nosuperuser nobypassrls nocreaterole nocreatedb", login)

    def _open(self, name: str) -> Database:
        database = Database(name, self)
        with database.connect(SUPERUSER) as connection:  # neither grant is copied with the template
            statement = sql.SQL("grant create, temporary on database {} to {}")
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(OWNER)))
            connection.execute(sql.SQL("grant usage, create on schema public to {}").format(sql.Identifier(OWNER)))
        return database

    def _run(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.postgres.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def start_server(version: int, directory: Path) -> Server:
    """Raises ConfigurationError when this machine has no binaries of the version."""
    binaries = find_binaries(version)
    postgres = PostgresServer(directory / f"pg{version}", binaries=binaries, settings=UNSAFE_AND_FAST)
    postgres.start()
    server = Server(version, postgres)
    server.create_logins()
    return server
