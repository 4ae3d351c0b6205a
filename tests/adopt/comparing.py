"""Everything an app's database is made of and holds, as rows: two equal states are the same database."""

from __future__ import annotations

from typing import Any

from databases import SUPERUSER, Database

_OURS = "c.relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema', 'tenantry', 'pg_toast')"

_CATALOG = {
    "columns": """
        select c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
          a.attgenerated, pg_get_expr(d.adbin, d.adrelid)
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relkind in ('r', 'p', 'v') and a.attnum > 0 and not a.attisdropped and {ours}""",
    "constraints": """
        select c.oid::regclass::text, k.conname, k.contype::text, k.convalidated, pg_get_constraintdef(k.oid)
        from pg_constraint k join pg_class c on c.oid = k.conrelid where k.contype <> 'n' and {ours}""",
    "indexes": """
        select i.indrelid::regclass::text, i.indisvalid, pg_get_indexdef(i.indexrelid)
        from pg_index i join pg_class c on c.oid = i.indrelid where {ours}""",
    "triggers": """
        select c.oid::regclass::text, pg_get_triggerdef(t.oid)
        from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal and {ours}""",
    "policies": """
        select c.oid::regclass::text, p.polname
        from pg_policy p join pg_class c on c.oid = p.polrelid where {ours}""",
    "relations": """
        select c.oid::regclass::text, c.relkind::text, c.relrowsecurity, c.relforcerowsecurity,
          c.relowner::regrole::text, c.reloptions::text,
          array(select format('%s %s %s', g.grantee::regrole, g.privilege_type, g.is_grantable)
                from aclexplode(coalesce(c.relacl, acldefault(
                  case c.relkind when 'S' then 's'::"char" else 'r' end, c.relowner))) g order by 1)
        from pg_class c where c.relkind in ('r', 'p', 'v', 'S') and {ours}""",
    "schemas": """
        select nspname, array(select format('%s %s', g.grantee::regrole, g.privilege_type)
                              from aclexplode(coalesce(nspacl, acldefault('n', nspowner))) g order by 1)
        from pg_namespace where nspname !~ '^pg_(toast|temp)'""",
    "functions": """
        select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname not in ('pg_catalog', 'information_schema', 'tenantry')""",
    "registry": "select relation::text, mode from tenantry.table_isolation",
}


def state(database: Database) -> dict[str, Any]:
    """As a superuser sees it: the catalog by what it is about, and the rows of each table; nothing of the move's own
    record."""
    with database.connect(SUPERUSER) as connection:
        found: dict[str, Any] = {
            what: sorted(map(repr, connection.execute(query.replace("{ours}", _OURS).encode()).fetchall()))
            for what, query in _CATALOG.items()
        }
        query = "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'p') and not c.relispartition"
        for (table,) in connection.execute(f"{query} and {_OURS}".encode()).fetchall():
            ids = " - 'changed'" if table.startswith("tenantry_adopt.tenants_of") else ""  # of transactions
            rows = connection.execute(f"select (to_jsonb(t){ids})::text from {table} as t".encode()).fetchall()
            if table not in ("tenantry_adopt.steps", "tenantry_adopt.moves"):
                found[f"rows of {table}"] = sorted(rows)
    return found
