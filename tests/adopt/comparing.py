"""Everything an app's database is made of and holds, as rows: two equal states are the same database."""

from __future__ import annotations

from typing import Any

from adopt.worlds import World
from databases import SUPERUSER, Database

_OURS = "c.relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema', 'tenantry', 'pg_toast')"

_CATALOG = {
    "columns": """
        select c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
          a.attgenerated, pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation::text,
          coalesce(nullif(a.attstattarget, -1)::text, ''), a.attstorage, a.attcompression, a.attoptions::text,
          a.attacl::text
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relkind in ('r', 'p', 'v') and a.attnum > 0 and not a.attisdropped and {ours}""",
    "constraints": """
        select c.oid::regclass::text, k.conname, k.contype::text, k.convalidated, pg_get_constraintdef(k.oid)
        from pg_constraint k join pg_class c on c.oid = k.conrelid where k.contype <> 'n' and {ours}""",
    "indexes": """
        select i.indrelid::regclass::text, i.indisvalid, pg_get_indexdef(i.indexrelid)
        from pg_index i join pg_class c on c.oid = i.indrelid where {ours}""",
    "storage": """
        select c.oid::regclass::text, c.reloptions::text, s.spcname, i.indisclustered, i.indisreplident,
          array(select coalesce(nullif(a.attstattarget, -1)::text, '') from pg_attribute a
                where a.attrelid = c.oid and pg_get_indexdef(c.oid, a.attnum, true) ~ '[(]' order by a.attnum)
        from pg_index i join pg_class c on c.oid = i.indexrelid left join pg_tablespace s on s.oid = c.reltablespace
        where {ours}""",
    "comments": """
        select coalesce(c.oid::regclass::text, kc.oid::regclass::text, tc.oid::regclass::text),
          coalesce(a.attname, k.conname, t.tgname, ''), d.description
        from pg_description d
        left join pg_class c on d.classoid = 'pg_class'::regclass and c.oid = d.objoid
        left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid and d.objsubid > 0
        left join pg_constraint k on d.classoid = 'pg_constraint'::regclass and k.oid = d.objoid
        left join pg_class kc on kc.oid = k.conrelid
        left join pg_trigger t on d.classoid = 'pg_trigger'::regclass and t.oid = d.objoid
        left join pg_class tc on tc.oid = t.tgrelid
        where coalesce(c.relnamespace, kc.relnamespace, tc.relnamespace)::regnamespace::text
          not in ('pg_catalog', 'information_schema', 'tenantry', 'pg_toast')""",
    "triggers": """
        select c.oid::regclass::text, t.tgenabled, pg_get_triggerdef(t.oid)
        from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal and {ours}""",
    "policies": """
        select c.oid::regclass::text, p.polname
        from pg_policy p join pg_class c on c.oid = p.polrelid where {ours}""",
    "relations": """
        select c.oid::regclass::text, c.relkind::text, c.relrowsecurity, c.relforcerowsecurity,
          c.relowner::regrole::text, c.reloptions::text, c.relreplident, c.relpersistence, c.reloftype::regtype::text,
          (select spcname from pg_tablespace s where s.oid = c.reltablespace),
          array(select format('%s %s %s', g.grantee::regrole, g.privilege_type, g.is_grantable)
                from aclexplode(coalesce(c.relacl, acldefault(
                  case c.relkind when 'S' then 's'::"char" else 'r' end, c.relowner))) g order by 1)
        from pg_class c where c.relkind in ('r', 'p', 'v', 'S') and {ours}""",
    "statistics": """
        select pg_get_statisticsobjdef(e.oid), e.stxstattarget
        from pg_statistic_ext e join pg_class c on c.oid = e.stxrelid where {ours}""",
    "rules": """
        select pg_get_ruledef(r.oid) from pg_rewrite r join pg_class c on c.oid = r.ev_class where {ours}""",
    "publications": """
        select p.pubname, c.oid::regclass::text, r.prattrs::text, pg_get_expr(r.prqual, r.prrelid)
        from pg_publication_rel r join pg_publication p on p.oid = r.prpubid join pg_class c on c.oid = r.prrelid""",
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


def go_back_and_forth(world: World) -> dict[str, Any]:
    """Isolates, undoes all of it, and then moves for good; answers what there was before."""
    before = state(world.database)
    world.apply("isolate")
    world.undo()
    assert state(world.database) == before
    world.apply("contract")
    assert world.findings() == []
    return before
