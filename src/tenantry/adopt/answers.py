"""What the database answers to a query of one value, or of one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


def value(
    connection: psycopg.Connection[Any], query: str, given: Sequence[Any] | Mapping[str, Any] | None = None
) -> Any:
    """The value in the first row; None where there is no row."""
    row = connection.execute(query.encode(), given).fetchone()
    return row[0] if row else None


def texts(connection: psycopg.Connection[Any], query: str) -> list[str]:
    """The values of all rows, as texts."""
    return [str(row[0]) for row in connection.execute(query.encode()).fetchall()]
