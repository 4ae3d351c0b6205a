-- Their foreign keys, save those to Tenantry's tables. An odd one means what it could not mean with the tenant in it: it is
-- matched in full, of periods, or not enforced.
select c.oid, quote_ident(k.conname), array(select quote_ident(x.name) from unnest(s.names) with ordinality as x(name, place) order by place),
  format('%I.%I', tn.nspname, t.relname), array(select quote_ident(x.name) from unnest(d.names) with ordinality as x(name, place) order by place),
  k.confdeltype::text, k.confupdtype::text, (select z.list from tenantry.columns_of(k.conrelid, k.confdelsetcols) as z),
  case when k.condeferred then 'deferrable initially deferred' when k.condeferrable then 'deferrable' else '' end,
  k.confmatchtype = 'f' or coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false)
    or not coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true),
  k.convalidated,
  coalesce(obj_description(k.oid, 'pg_constraint'), '')
from pg_constraint as k
join pg_class as c on c.oid = k.conrelid join pg_namespace as n on n.oid = c.relnamespace
join pg_class as t on t.oid = k.confrelid join pg_namespace as tn on tn.oid = t.relnamespace
cross join lateral tenantry.columns_of(k.conrelid, k.conkey) as s
cross join lateral tenantry.columns_of(k.confrelid, k.confkey) as d
where k.contype = 'f' and k.conparentid = 0 and tn.nspname <> 'tenantry' and {app}
order by 1, 2
