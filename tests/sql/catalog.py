"""Everything the tenantry schema is made of, as rows: two databases with equal catalogs have the same schema."""

from __future__ import annotations

from typing import Any

from databases import SUPERUSER, Database
from sql.mirror import Mirror

CATALOG = {
    "relations": "select relname, relkind, relowner::regrole::text, relrowsecurity, relforcerowsecurity, relacl::text,"
    " reloptions::text, obj_description(oid) from pg_class where relnamespace = 'tenantry'::regnamespace order by 1",
    "columns": "select attrelid::regclass::text, attnum, attname, atttypid::regtype::text, attnotnull, attidentity,"
    " attgenerated, attacl::text, pg_get_expr(adbin, adrelid) from pg_attribute"
    " left join pg_attrdef on (adrelid, adnum) = (attrelid, attnum)"
    " join pg_class c on c.oid = attrelid where relnamespace = 'tenantry'::regnamespace and attnum > 0 order by 1, 2",
    "constraints": "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint"
    " where connamespace = 'tenantry'::regnamespace order by 1, 2",
    "indexes": "select indexdef from pg_indexes where schemaname = 'tenantry' order by 1",
    "triggers": "select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = tgrelid"
    " where relnamespace = 'tenantry'::regnamespace and not tgisinternal order by 1",
    "policies": "select tablename, policyname, permissive, roles::text, cmd, qual, with_check from pg_policies"
    " where schemaname = 'tenantry' order by 1, 2",
    "functions": "select pg_get_functiondef(oid), proowner::regrole::text, proacl::text from pg_proc"
    " where pronamespace = 'tenantry'::regnamespace order by 1",
    "views": "select viewname, definition from pg_views where schemaname = 'tenantry' order by 1",
    "migrations": "select number, name, breaking from tenantry.migrations order by 1",
    "role_permissions": "select * from tenantry.role_permissions order by 1, 2",
    "default privileges": "select defaclrole::regrole::text, defaclobjtype, defaclacl::text from pg_default_acl"
    " order by 1, 2",
    "schema": "select nspowner::regrole::text, nspacl::text from pg_namespace where nspname = 'tenantry'",
}


def catalog(database: Database) -> dict[str, Any]:
    """Everything the schema is made of, as rows."""
    with database.connect(SUPERUSER) as connection:
        return {what: Mirror(connection).rows(query) for what, query in CATALOG.items()}
