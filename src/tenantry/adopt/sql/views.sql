-- The views that read them, with the tables that they read.
select format('%I.%I', n.nspname, c.relname), quote_ident(pg_get_userbyid(c.relowner)), r.names,
  coalesce(c.reloptions && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false),
  (select array_agg(array[to_jsonb(case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end),
                              to_jsonb(lower(g.privilege_type)), to_jsonb(g.is_grantable)] order by 1)
            from aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as g)
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
cross join lateral (
  select array_agg(format('%I.%I', tn.nspname, t.relname) order by t.oid) from pg_class as t join pg_namespace as tn on tn.oid = t.relnamespace
  where t.relkind in ('r', 'p') and c.oid = any (tenantry.views_of(t.oid)::oid[])
    and t.oid in (select x.refobjid from pg_depend as x where x.refclassid = 'pg_class'::regclass and x.classid = 'pg_rewrite'::regclass)) as r(names)
where c.relkind = 'v' and r.names is not null and {app}
order by 1
