"""Databases for tests: one is migrated and becomes the template, and each test gets a copy under a constant name.

The name is constant so that an app which reads DATABASE_URL when it is imported has the right one in every test; and
it is the name that is migrated, before it is renamed to be the template, so that a migration that imports the app finds
the same.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from tenantry import mirror, roles
from tenantry.database import connect, read_url, run
from tenantry.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg

    from tenantry.dev.binaries import Binaries

Migrate = str | Callable[[str], object] | None
"""A command, or a function that takes the owner's URL."""

APP = "tenantry_test_app"
OWNER = "tenantry_test_owner"
SERVER_VARIABLE = "TENANTRY_TEST_SERVER"
_LOCK = 0x7E4A18  # one of our own: advisory locks are shared by everybody in a database
_FAST = {  # of a server whose data nobody will miss
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
}


@dataclass(frozen=True)
class Database:
    """A test's database: where the app logs in, and where its migrations do."""

    url: str = field(repr=False)
    owner_url: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.url, "TENANTRY_MIGRATION_URL": self.owner_url}


@dataclass(frozen=True)
class Place:
    """Where a run's databases are: `name` on the server of `admin_url`. With a `folder` it is ours to start there."""

    name: str
    admin_url: str = field(repr=False)
    folder: Path | None

    @property
    def database(self) -> Database:
        logins = (f"{login}:{self.password}" for login in (APP, OWNER))
        return Database(*(self._url(login) for login in logins))

    @property
    def admin_url_of_database(self) -> str:
        return self._url(urlsplit(self.admin_url).netloc.rpartition("@")[0])

    @property
    def password(self) -> str:
        """Of both logins: the same for every run that knows the administrator's URL, since logins are the server's."""
        return hashlib.sha256(f"tenantry tests {self.admin_url}".encode()).hexdigest()[:32]

    def _url(self, login: str) -> str:
        address = urlsplit(self.admin_url)
        host = address.netloc.rpartition("@")[2]
        return urlunsplit(("postgresql", f"{login}@{host}" if login else host, self.name, address.query, ""))


def find_place(root: Path) -> Place:
    """The place of a run of the project in folder `root`; nothing is started. Workers of pytest-xdist have one each."""
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"tenantry_test_{digest}_{worker}"
    if given := os.environ.get(SERVER_VARIABLE):
        _check_server_url(given)
        return Place(name, given, None)
    from tenantry.dev.postgres import PostgresServer

    folder = Path(tempfile.gettempdir()).resolve() / f"tenantry-{secrets.token_hex(6)}"
    return Place(name, PostgresServer(folder / "pg").dsn("postgres"), folder)


def _check_server_url(url: str) -> None:
    read_url(url)
    # In the query they would win over those of the databases and logins made here.
    named = {name for name, _ in parse_qsl(urlsplit(url).query)} & {"user", "password", "dbname"}
    if "://" not in url or named:
        problem = f"names {', '.join(sorted(named))} behind the question mark" if named else "is no URL"
        raise ConfigurationError(
            f"{SERVER_VARIABLE} {problem}.",
            hint="Write it like postgresql://postgres:password@localhost:5432/postgres.",
        )


@contextmanager
def running(place: Place) -> Iterator[None]:
    """The server of a place, started where it is ours. Raises ConfigurationError, DatabaseUnavailable."""
    if place.folder is None:
        yield
        return
    from tenantry.dev.postgres import PostgresServer

    binaries = _find_binaries()
    with _made(place.folder), PostgresServer(place.folder / "pg", binaries=binaries, settings=_FAST) as server:
        if server.dsn("postgres") != place.admin_url:  # which the app may have read already
            raise ConfigurationError(
                f"PostgreSQL cannot use the folder {place.folder}: its path is too long, or only root may enter it.",
                hint=f"Set TMPDIR=/tmp, or name a server of your own in {SERVER_VARIABLE}.",
            )
        yield


def _find_binaries() -> Binaries:
    from tenantry.dev.binaries import find_binaries

    try:
        return find_binaries()
    except ConfigurationError as error:
        hint = f"Run: pip install 'tenantry[dev]', or name a server you have in {SERVER_VARIABLE}."
        raise ConfigurationError(error.message, detail=error.detail, hint=hint) from None


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    folder.mkdir()
    folder.chmod(0o755)  # root's server runs as another user
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Workshop:
    """Makes the databases of a place. `admin` is a connection in autocommit that may create databases and roles."""

    def __init__(self, place: Place, admin: psycopg.Connection[Any]) -> None:
        self.place = place
        self._admin = admin
        self._template = f"{place.name}_template"
        query = "select current_setting('fsync'), rolsuper from pg_roles where rolname = current_user"
        fsync, is_superuser = admin.execute(query).fetchone() or ("on", False)
        self._is_superuser = bool(is_superuser)
        # Without fsync copying files is fastest; with it, that would wait for two checkpoints.
        self._strategy = "file_copy" if fsync == "off" else "wal_log"

    def claim(self) -> None:
        """Keeps out another run of the same tests for as long as `admin` lives. Raises ConfigurationError."""
        row = self._admin.execute("select pg_try_advisory_lock(hashtext(%s))", [self.place.name]).fetchone()
        if row is None or not row[0]:
            raise ConfigurationError(
                f"Another run of these tests uses the database {self.place.name}.",
                hint=f"Wait for it, or name another server in {SERVER_VARIABLE}.",
            )

    def make_template(self, migrate: Migrate, roles_file: Path | None, folder: Path) -> None:
        """Tenantry's schema, the app's tables and its roles. Raises a TenantryError.

        `migrate` runs in `folder` if it is a command.
        """
        self.drop()
        self._execute(f'create database "{self.place.name}"')
        self._install()
        _migrate(migrate, self.place.database.owner_url, folder)
        if roles_file is not None:
            with connect(self.place.database.owner_url) as connection:
                run(connection, mirror.set_role_permissions(roles.load(roles_file).grants))
        self._disconnect()
        self._execute(f'alter database "{self.place.name}" rename to "{self._template}"')
        self._execute(f'alter database "{self._template}" with allow_connections false')

    def renew(self) -> Database:
        """A fresh copy in the place of the last one, whose connections are closed."""
        self._execute(f'drop database if exists "{self.place.name}" with (force)')
        self._execute(f'create database "{self.place.name}" template "{self._template}" strategy {self._strategy}')
        return self.place.database

    def drop(self) -> None:
        """Removes what a run made, this one or one that was killed. The two logins stay: they are the server's."""
        for name in (self.place.name, self._template):
            self._execute(f'drop database if exists "{name}" with (force)')

    def _install(self) -> None:
        """The logins and the schema. One run at a time: roles are shared by all databases of the server."""
        from tenantry import schema

        self._admin.execute("select pg_advisory_lock(%s)", [_LOCK])
        try:
            for login in (APP, OWNER):
                self._create_login(login)
            with connect(self.place.admin_url_of_database) as connection:
                schema.install(connection, app_roles=[APP, OWNER])
                connection.execute(f'grant create on database "{self.place.name}" to {OWNER}'.encode())
                connection.execute(f"grant usage, create on schema public to {OWNER}".encode())
        finally:
            self._admin.execute("select pg_advisory_unlock(%s)", [_LOCK])

    def _create_login(self, login: str) -> None:
        if not self._admin.execute("select 1 from pg_roles where rolname = %s", [login]).fetchone():
            self._execute(f"create role {login} login")
            if not self._is_superuser:
                self._execute(f"grant {login} to current_user")  # to be able to disconnect it
        self._execute(f"alter role {login} password '{self.place.password}'")

    def _disconnect(self) -> None:
        """Migrations may have left connections open, and a database in use is no template."""
        statement = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
        self._admin.execute(statement, [self.place.name])

    def _execute(self, statement: str) -> None:
        self._admin.execute(statement.encode())


def _migrate(migrate: Migrate, owner_url: str, folder: Path) -> None:
    if isinstance(migrate, str):
        _run_command(migrate, folder)
    elif migrate is not None:
        migrate(owner_url)


def _run_command(command: str, folder: Path) -> None:
    """Raises ConfigurationError with the command's own words when it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    parts = shlex.split(command)
    program = shutil.which(parts[0], path=path) if parts else None
    if program is None:
        raise ConfigurationError(f"The migration command '{command}' cannot be run: there is no such program.")
    ended = subprocess.run(
        [program, *parts[1:]], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    if ended.returncode != 0:
        raise ConfigurationError(
            f"The migration command '{command}' failed with exit code {ended.returncode}.",
            detail=(ended.stdout + ended.stderr).strip(),
        )
