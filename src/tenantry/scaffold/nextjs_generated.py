"""The files of the suite that no template holds whole: the names in `permissions.ts`, and `db-sync.sql`."""

from __future__ import annotations

import re
from collections.abc import Collection

from tenantry import schema
from tenantry.roles import RoleMap
from tenantry.scaffold.project import Orm
from tenantry.scaffold.templates import TemplateError

_WIDTH = 120

_HOW_TO_RUN: dict[Orm, str] = {
    "pg": """\
-- Tenantry's half in the database. Run it once, as a login with CREATEROLE that may create schemas:
--
--     psql -v ON_ERROR_STOP=1 -f db-sync.sql "$TENANTRY_MIGRATION_URL"
""",
    "drizzle": """\
-- Tenantry's half in the database, for a migration of Drizzle's: make an empty one, and copy this file over it.
--
--     npx drizzle-kit generate --custom --name=tenantry
--     npx drizzle-kit migrate
--
-- It runs whole, in the one transaction that Drizzle opens: put no statement-breakpoint into it.
""",
    "prisma": """\
-- Tenantry's half in the database, for a migration of Prisma's: make an empty one, and copy this file over its
-- migration.sql.
--
--     npx prisma migrate dev --create-only --name tenantry
--     npx prisma migrate deploy
""",
}
_LET_IN = """\
--
-- Then let your app's login in, an ordinary role:
--
--     grant tenantry_tenant, tenantry_app, tenantry_gate to app;
--
-- `tenantry db migrate --app-role app` does all of it in place of this file. After an upgrade of the package it brings
-- the schema up to date; `tenantry db sql --from N` prints what is new.
"""


def fill_permissions(text: str, roles: RoleMap) -> str:
    """The template with the names of `tenantry.toml`: its roles, and the permissions and patterns they hold."""
    return _fill(_fill(text, "roles", roles.roles), "permissions", {permission for _, permission in roles.rows()})


def write_sync(orm: Orm) -> str:
    """`db-sync.sql`: how to run it, then exactly what `tenantry db sql` prints (`--no-transactions` for an ORM's)."""
    return f"{_HOW_TO_RUN[orm]}{_LET_IN}\n{schema.sql(transactions=orm == 'pg')}"


def _fill(text: str, name: str, values: Collection[str]) -> str:
    """The text with the values in the array literal of this name, laid out as Prettier does."""
    head = f"export const {name} = ["
    quoted = [f'"{value}"' for value in sorted(values)]
    line = ", ".join(quoted)
    fits = len(f"{head}{line}] as const;") <= _WIDTH
    listed = line if fits else "".join(f"\n  {value}," for value in quoted) + "\n"
    filled, times = re.subn(rf"(?<=^{re.escape(head)})[^\]]*", lambda _: listed, text, flags=re.MULTILINE)
    if times != 1:
        raise TemplateError(f"There are {times} arrays {name!r}, not one.")
    return filled
