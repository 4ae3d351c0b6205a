-- The sequences their columns draw from.
select c.oid, s::text, (select array_agg(array[to_jsonb(case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end),
                              to_jsonb(lower(g.privilege_type)), to_jsonb(g.is_grantable)] order by 1)
            from aclexplode(coalesce(q.relacl, acldefault('s', q.relowner))) as g)
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
cross join lateral unnest(tenantry.sequences_of(c.oid)) as s join pg_class as q on q.oid = s
where c.relkind in ('r', 'p') and {app}
order by 1, 2
