"""Installs, upgrades and prints the database's half of Tenantry: the files under `sql/`.

An installation is: the migrations that are missing, each in a transaction of its own, then the functions and the access
rules, which are made anew whenever they differ. One session lock keeps two installers apart. A migration marked
`-- breaking` is one an older release cannot work with; a release that meets a newer breaking schema refuses it. A newer
schema that breaks nothing is left alone: published functions never change their meaning, so the older release goes on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from tenantry import __version__
from tenantry.errors import SchemaError

if TYPE_CHECKING:
    import psycopg

# A fixed number of our own: advisory locks are shared by everybody in a database.
LOCK = 0x7E4A17


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `sql/migrations`: its number, name, text, and whether older releases cannot work after it."""

    number: int
    name: str
    text: str
    breaking: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What the database has (`installed`, 0 for nothing), what this release brings, and what is missing.

    `newer`: a later release installed it. `current`: there is nothing for this release to do.
    """

    installed: int
    available: int
    pending: tuple[str, ...]
    functions_current: bool
    newer: bool

    @property
    def current(self) -> bool:
        return self.newer or (not self.pending and self.functions_current)


@dataclass(frozen=True, slots=True)
class Finding:
    """A row of `check_v1`: what is wrong with the isolation of `object`, and the statement that mends it."""

    name: str
    object: str
    code: str
    explanation: str
    fix: str


def migrations() -> list[Migration]:
    """Every migration of this release, in order."""
    found = []
    for file in _files("migrations"):
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match is None:
            raise SchemaError(f"{file.name} is no migration: its name is not like 0001_name.sql")
        text = file.read_text(encoding="utf-8")
        found.append(Migration(int(match[1]), match[2], text, text.startswith("-- breaking")))
    return found


def functions() -> str:
    """The functions and access rules of this release as one script.

    Functions may name each other in any order: bodies are checked when they first run. SQL functions are the exception
    (PostgreSQL parses them when they are made), which is why the script turns that check off.
    """
    parts = ["set local role tenantry_owner;", "set local check_function_bodies = off;"]
    parts += [file.read_text(encoding="utf-8") for file in _files("functions")]
    parts.append(_read("access.sql"))
    return "\n".join(parts)


def install(connection: psycopg.Connection, *, app_roles: Sequence[str] = ()) -> list[str]:
    """Installs or upgrades, then lets `app_roles` use it; returns the names of the migrations applied.

    The connection is put into autocommit for the time. Its login is a superuser, or has CREATEROLE and may create
    schemas in the database. Raises SchemaError where the schema is newer than this release and breaking.
    """
    applied = []
    with _exclusively(connection):
        known = _installed(connection)
        _refuse_newer(connection, known)
        for migration in migrations():
            if migration.number not in known:
                with connection.transaction():
                    _run(connection, migration.text)
                    _run(connection, _record(migration))
                applied.append(f"{migration.number:04} {migration.name}")
        if applied or not status(connection).current:
            with connection.transaction():
                _run(connection, functions())
                _run(connection, _remember_digest())
        for role in app_roles:
            _grant(connection, role)
    return applied


def status(connection: psycopg.Connection) -> Status:
    """What is installed, and what `install` would do. Writes nothing."""
    known = _installed(connection)
    pending = tuple(f"{m.number:04} {m.name}" for m in migrations() if m.number not in known)
    version, digest = _stored_functions(connection)
    newer = not known.keys() <= {m.number for m in migrations()} or _order(version) > _order(__version__)
    return Status(max(known, default=0), migrations()[-1].number, pending, digest == _digest(), newer)


def require(connection: psycopg.Connection) -> None:
    """Refuses a database this release cannot work with: not installed, too old, or newer and breaking."""
    known = _installed(connection)
    _refuse_newer(connection, known)
    if not status(connection).current:
        raise SchemaError(
            f"The tenantry schema is not this release's (installed: {max(known, default=0)}).",
            hint="Run `tenantry db migrate`.",
        )


def sql(app_roles: Sequence[str] = (), *, after: int = 0, transactions: bool = True) -> str:
    """The installation as one script, for psql and for people who migrate with Alembic, Drizzle or Prisma.

    For a database that has the migrations up to number `after`: 0 for an empty one. Each step is a transaction of its
    own, as in `install`; without `transactions` the script is to be run inside one, whole. Raises SchemaError where
    `after` is none of this release's migrations.
    """
    if after not in range(migrations()[-1].number + 1):
        raise SchemaError(
            f"There is no migration {after}: this release has 1 to {migrations()[-1].number}.",
            hint="`tenantry db status` says which number is installed.",
        )
    steps = [f"{m.text}\n{_record(m)}" for m in migrations() if m.number > after]
    # What follows in somebody else's transaction is to have its functions checked again.
    steps.append(f"{functions()}\n{_remember_digest()}\nset local check_function_bodies = on;")
    if transactions:
        steps = [f"begin;\n{step}\ncommit;" for step in steps]
    steps += [_grants(role) for role in app_roles]
    return "\n\n".join(["-- The tenantry schema. Written by `tenantry db sql`.", *steps]) + "\n"


def check(connection: psycopg.Connection) -> list[Finding]:
    """Everything wrong with the isolation: see `sql/functions/check_v1.sql`."""
    rows = connection.execute("select name, object, code, explanation, fix from tenantry.check_v1()").fetchall()
    return [Finding(*row) for row in rows]


def role_permissions(connection: psycopg.Connection) -> dict[str, frozenset[str]]:
    """The app's own map as the database has it: Clerk role -> permission patterns."""
    rows = connection.execute("select role, array_agg(permission) from tenantry.role_permissions group by role")
    return {role: frozenset(held) for role, held in rows}


def _files(folder: str) -> list[Traversable]:
    found = resources.files("tenantry").joinpath("sql", folder).iterdir()
    return sorted((file for file in found if file.name.endswith(".sql")), key=lambda file: file.name)


def _read(name: str) -> str:
    return resources.files("tenantry").joinpath("sql", name).read_text(encoding="utf-8")


def _run(connection: psycopg.Connection, text: str) -> None:
    connection.execute(text)


def _record(migration: Migration) -> str:
    values = f"{migration.number}, '{migration.name}', {str(migration.breaking).lower()}"
    return f"insert into tenantry.migrations (number, name, breaking) values ({values});\nreset role;"


def _digest() -> str:
    return hashlib.sha256(functions().encode()).hexdigest()


def _remember_digest() -> str:
    return f"comment on table tenantry.migrations is 'functions {__version__} {_digest()}';\nreset role;"


def _stored_functions(connection: psycopg.Connection) -> tuple[str, str]:
    """The release whose functions the database has, and their digest; two empty texts where there are none."""
    row = connection.execute("select obj_description(to_regclass('tenantry.migrations'), 'pg_class')").fetchone()
    words = row[0].split() if row and row[0] else []
    return (words[1], words[2]) if len(words) == 3 else ("", "")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _installed(connection: psycopg.Connection) -> dict[int, bool]:
    """Number -> breaking, of what the database has."""
    present = connection.execute("select to_regclass('tenantry.migrations') is not null").fetchone()
    if not present or not present[0]:
        return {}
    return dict(connection.execute("select number, breaking from tenantry.migrations").fetchall())


def _refuse_newer(connection: psycopg.Connection, known: dict[int, bool]) -> None:
    own = {migration.number for migration in migrations()}
    newer = sorted(number for number, breaking in known.items() if number not in own and breaking)
    if newer:
        raise SchemaError(
            f"The database's tenantry schema has breaking migration {newer[-1]}, which this release does not know.",
            hint="Upgrade the tenantry package to the release that migrated this database.",
        )


@contextmanager
def _exclusively(connection: psycopg.Connection) -> Iterator[None]:
    """Holds the installers' lock, in autocommit, and puts the connection back as it was."""
    before = connection.autocommit
    connection.autocommit = True
    connection.execute("select pg_advisory_lock(%s)", [LOCK])
    try:
        yield
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [LOCK])
        connection.autocommit = before


def _grant(connection: psycopg.Connection, role: str) -> None:
    known = connection.execute("select rolsuper or rolbypassrls from pg_roles where rolname = %s", [role]).fetchone()
    if known is None:
        raise SchemaError(f'There is no role "{role}".', hint=f'Create it first: create role "{role}" login;')
    if known[0]:
        raise SchemaError(
            f'The role "{role}" is a superuser or has BYPASSRLS: no policy holds it.',
            hint="Name an ordinary role for the app.",
        )
    _run(connection, _grants(role))


def _grants(role: str) -> str:
    quoted = '"' + role.replace('"', '""') + '"'
    grant = f"grant tenantry_tenant, tenantry_app, tenantry_gate to {quoted};"
    # The installer of another database of this cluster may grant the same at this very moment.
    block = f"begin {grant} exception when unique_violation then null; end"
    return "do '" + block.replace("'", "''") + "';"
