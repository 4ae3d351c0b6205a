"""The benchmark's own PostgreSQL cluster: durable as by default, reached over TCP, made anew for every run."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.harness import cpu
from tenantry import schema
from tenantry.dev.binaries import find_binaries
from tenantry.dev.postgres import PostgresServer

APP = "app"  # what contenders log in as: an ordinary role that owns the tables it makes
APP_OF_ROLES = "app_of_roles"  # for the peer that has a role for each tenant: being a member of a thousand costs time
SETTINGS = {
    "shared_buffers": "512MB",
    "max_connections": "400",
    # Neither may fall into one contender's turn and not into another's.
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "16GB",
}


@dataclass(frozen=True)
class Database:
    """One database of the cluster."""

    name: str
    cluster: Cluster

    def url(self, login: str = APP) -> str:
        """As an app logs in."""
        return f"postgresql://{login}:{login}@127.0.0.1:{self.cluster.port}/{self.name}"

    def connect(self) -> psycopg.Connection[Any]:
        """As the superuser, in autocommit mode."""
        return psycopg.connect(self.cluster.server.dsn(self.name), autocommit=True)

    def run(self, script: str) -> None:
        """Runs statements as the superuser."""
        with self.connect() as connection:
            connection.execute(script.encode())

    def run_as_app(self, script: str) -> None:
        """Runs statements as the app's login, which owns what it makes."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(script.encode())

    def rows(self, query: str, *values: Any) -> list[Any]:
        """What the superuser sees."""
        with self.connect() as connection:
            return connection.execute(query.encode(), values or None).fetchall()

    def install_tenantry(self) -> None:
        with self.connect() as connection:
            schema.install(connection, app_roles=[APP])

    def settle(self) -> None:
        """Gives the planner its statistics and the disk its pages, so that no turn pays for what came before."""
        self.run("vacuum analyze")
        self.run("checkpoint")


class Cluster:
    """A server of one major version in `folder`, between `start` and `stop`."""

    def __init__(self, folder: Path, major: int) -> None:
        binaries = find_binaries(major)
        self.version = binaries.version
        self.port = free_port()
        self.server = PostgresServer(folder / "postgres", binaries=binaries, settings=SETTINGS, port=self.port)

    def start(self) -> None:
        self.server.start()
        with psycopg.connect(self.server.dsn("postgres"), autocommit=True) as connection:
            for login in (APP, APP_OF_ROLES):
                connection.execute(f"create role {login} login password '{login}'".encode())

    def stop(self) -> None:
        self.server.stop()

    def create(self, name: str) -> Database:
        """A new database in which the app may make tables."""
        names = {"name": sql.Identifier(name), "app": sql.Identifier(APP)}
        with psycopg.connect(self.server.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("create database {name} owner {app}").format(**names))
        database = Database(name, self)
        with database.connect() as connection:
            connection.execute(sql.SQL("grant usage, create on schema public to {app}").format(**names))
        return database

    def cpu(self) -> cpu.Reading:
        """CPU time of the server and all its backends so far."""
        return cpu.read(cpu.family(self.server.pid))


def free_port() -> int:
    """A port on 127.0.0.1 that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
