"""Takes one line of a defence out of the product's own code, so that a test can show what the line is for."""

from __future__ import annotations

import inspect
import sys
from textwrap import dedent
from typing import Any

import pytest

from sql.tenants import Connection, read, run


def rewrite_sql(connection: Connection, function: str, old: str, new: str) -> None:
    """Replaces `old` in the source of tenantry's SQL function, in the connection's transaction."""
    text = read(connection, "select pg_get_functiondef(oid) from pg_proc where proname = %s", function)
    assert old in text
    run(connection, text.replace(old, new))


def rewrite_python(patch: pytest.MonkeyPatch, owner: Any, function: str, old: str, new: str) -> None:
    """Replaces `old` in the source of a module's function or a class's method, for the test."""
    original = getattr(owner, function)
    text = dedent(inspect.getsource(original))
    assert old in text
    made: dict[str, Any] = {}
    exec(compile(text.replace(old, new), original.__module__, "exec"), vars(sys.modules[original.__module__]), made)
    patch.setattr(owner, function, made[function])
