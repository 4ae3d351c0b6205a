"""Opens the connection that commands work on, from a URL in whatever form apps keep it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tenantry import mirror
from tenantry.errors import ConfigurationError, DatabaseUnavailable, SchemaError, TenantryError

if TYPE_CHECKING:
    import psycopg

    from tenantry.mirror import Call

CONNECT_SECONDS = 10
NOT_THIS_RELEASE = "The tenantry schema is not installed here, or is of another release."
REFUSED = "The database refused the command."


@contextmanager
def connect(url: str | None = None) -> Iterator[psycopg.Connection[Any]]:
    """A connection in autocommit mode to `url`, else to TENANTRY_MIGRATION_URL or DATABASE_URL of the environment.

    Raises ConfigurationError for a URL nobody can read, DatabaseUnavailable when nobody answers, SchemaError when the
    database refuses what is done with it. None repeats the URL, which holds a password.
    """
    import psycopg

    parameters = read_url(url or os.environ.get("TENANTRY_MIGRATION_URL") or os.environ.get("DATABASE_URL"))
    try:
        with psycopg.connect(**{"connect_timeout": CONNECT_SECONDS, **parameters}, autocommit=True) as connection:
            yield connection
    except psycopg.Error as error:
        raise explain(error) from None


def run(connection: psycopg.Connection[Any], call: Call) -> str:
    """What a database function answered, as JSON text."""
    row = connection.execute(call.percent.encode(), call.arguments).fetchone()
    return str(row[0]) if row else "null"


def explain(error: psycopg.Error) -> TenantryError:
    """What the database said, as an error of ours."""
    import psycopg

    if known := mirror.read_error(error):
        return known
    said = error.diag
    message = said.message_primary or str(error).strip()
    if error.sqlstate in ("3F000", "42P01", "42883") and "tenantry" in message:
        return SchemaError(NOT_THIS_RELEASE, hint="Run `tenantry db migrate`.")
    if error.sqlstate == "42501" and re.search(r"tenantry|_v\d+$", message):  # a function is named without its schema
        return SchemaError(
            "This login may not use the tenantry schema.",
            detail=message,
            hint="Run `tenantry db migrate --app-role <this login>` as the role that installed it.",
        )
    if isinstance(error, psycopg.OperationalError):
        hint = said.message_hint or "Is it running, and is the URL right?"
        return DatabaseUnavailable("The database could not be reached.", detail=message, hint=hint)
    return SchemaError(REFUSED, detail=message, hint=said.message_hint)


def read_url(url: str | None) -> dict[str, Any]:
    """The parameters in a PostgreSQL URL, also in SQLAlchemy's form `postgresql+asyncpg://`."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    if not url:
        raise ConfigurationError(
            "No database is given.", hint="Set DATABASE_URL, or pass --database-url postgresql://user@host/database."
        )
    scheme, separator, rest = url.partition("://")
    try:
        parameters = conninfo_to_dict(f"{scheme.partition('+')[0]}{separator}{rest}")
    except (psycopg.ProgrammingError, ValueError):
        raise ConfigurationError(
            "The database URL cannot be read.", hint="It looks like postgresql://user:password@host:5432/database."
        ) from None
    if "@" in str(parameters.get("host", "")):
        raise ConfigurationError(
            "The database URL has an '@' in its password or host.", hint="Write an '@' in a password as %40."
        )
    return parameters
