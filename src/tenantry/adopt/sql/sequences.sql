-- The sequences their columns draw from.
select c.oid, s::text, (select array_agg(array[to_jsonb(case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end),
                              to_jsonb(lower(g.privilege_type)), to_jsonb(g.is_grantable)] order by 1)
            from aclexplode(coalesce(q.relacl, acldefault('s', q.relowner))) as g)
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
cross join lateral unnest(tenantry.sequences_of(c.oid)) as s join pg_class as q on q.oid = s
where c.relkind in ('r', 'p') and 
  n.nspname not in ('pg_catalog', 'information_schema', 'tenantry', 'tenantry_adopt') and n.nspname !~ '^pg_(toast|temp)'
  and not exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by 1, 2
