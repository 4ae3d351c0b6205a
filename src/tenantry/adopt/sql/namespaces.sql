-- The schemas they are in, and who may use those.
select quote_ident(n.nspname), (select array_agg(array[to_jsonb(case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end),
                              to_jsonb(lower(g.privilege_type)), to_jsonb(g.is_grantable)] order by 1)
            from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as g)
from pg_namespace as n
where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'tenantry', 'tenantry_adopt')
order by 1
