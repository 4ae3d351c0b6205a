-- What of the app's tables a move could not give back, or somebody would feel: table, kind, object. What a partition has
-- counts as its parent's.
with relations as (
  select c.oid, c.oid as root from pg_class as c where c.relkind in ('r', 'p') and not c.relispartition
  union all
  select h.inhrelid, h.inhparent from pg_inherits as h join pg_class as c on c.oid = h.inhparent where c.relkind = 'p'
), app as (
  select l.root, c.*, n.nspname, format('%I.%I', rn.nspname, r.relname) as named
  from relations as l join pg_class as c on c.oid = l.oid join pg_namespace as n on n.oid = c.relnamespace
  join pg_class as r on r.oid = l.root join pg_namespace as rn on rn.oid = r.relnamespace
  where rn.nspname not in ('pg_catalog', 'information_schema', 'tenantry', 'tenantry_adopt') and rn.nspname !~ '^pg_(toast|temp)'
    and not exists (select from tenantry.table_isolation as t where t.relation in (c.oid, r.oid))
)
select a.named, 'security', format('%I.%I', a.nspname, a.relname) from app as a where a.relrowsecurity
union
select a.named, 'policy', quote_ident(p.polname) from app as a join pg_policy as p on p.polrelid = a.oid
union
select a.named, 'trigger', quote_ident(t.tgname) from app as a join pg_trigger as t on t.tgrelid = a.oid
where not t.tgisinternal and t.tgenabled in ('A', 'R') and t.tgtype & 16 <> 0 and t.tgattr = ''
union
select a.named, 'identity', quote_ident(i.relname)
from app as a join pg_index as x on x.indrelid = a.oid and x.indisreplident join pg_class as i on i.oid = x.indexrelid
where a.relreplident = 'i'
union
select a.named, 'publication', quote_ident(p.pubname)
from app as a join pg_publication_tables as p on p.schemaname = a.nspname and p.tablename = a.relname
union
select a.named, 'grant', quote_ident(c.attname)
from app as a join pg_attribute as c on c.attrelid = a.oid and not c.attisdropped and c.attacl is not null
union
select a.named, 'materialized', format('%I.%I', vn.nspname, v.relname)
from app as a cross join lateral unnest(tenantry.views_of(a.oid, 'm')) as m join pg_class as v on v.oid = m
join pg_namespace as vn on vn.oid = v.relnamespace
order by 1, 2, 3
