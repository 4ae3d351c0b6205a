-- The partitions of partitioned tables.
select c.oid, format('%I.%I', pn.nspname, p.relname),
  (select array_agg(array[to_jsonb(case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end),
                          to_jsonb(lower(g.privilege_type)), to_jsonb(g.is_grantable)] order by 1)
   from aclexplode(coalesce(p.relacl, acldefault('r', p.relowner))) as g)
from pg_inherits as h join pg_class as c on c.oid = h.inhparent join pg_namespace as n on n.oid = c.relnamespace
join pg_class as p on p.oid = h.inhrelid join pg_namespace as pn on pn.oid = p.relnamespace
where c.relkind = 'p' and {app}
order by 1, 2
