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
select a.named, 'published columns', quote_ident(p.pubname)
from app as a join pg_publication_rel as r on r.prrelid = a.oid and r.prattrs is not null join pg_publication as p on p.oid = r.prpubid
where a.relreplident = 'd' and (p.pubupdate or p.pubdelete)
union
select a.named, 'tablespace', quote_ident(s.spcname)
from app as a join pg_index as x on x.indrelid = a.oid join pg_class as i on i.oid = x.indexrelid join pg_tablespace as s on s.oid = i.reltablespace
where not has_tablespace_privilege(a.relowner, s.oid, 'create')
union
select a.named, 'rowtype', format('the column %I of %I.%I', c.attname, hn.nspname, h.relname)
from app as a join pg_type as y on y.typrelid = a.oid cross join lateral unnest(array[y.oid, y.typarray]) as held(type)
join pg_attribute as c on c.atttypid = held.type and not c.attisdropped
join pg_class as h on h.oid = c.attrelid and h.relkind in ('r', 'p') join pg_namespace as hn on hn.oid = h.relnamespace
union
select a.named, 'whole', format('%I.%I', vn.nspname, v.relname)
from app as a join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.oid and d.classid = 'pg_rewrite'::regclass
join pg_rewrite as w on w.oid = d.objid join pg_class as v on v.oid = w.ev_class and v.relkind in ('v', 'm')
join pg_namespace as vn on vn.oid = v.relnamespace
where regexp_replace(pg_get_viewdef(v.oid), '''([^'']|'''')*''', '', 'g') ~ '[\w"]\.\*'
union
select a.named, 'grant', quote_ident(c.attname)
from app as a join pg_attribute as c on c.attrelid = a.oid and not c.attisdropped and c.attacl is not null
union
select a.named, 'materialized', format('%I.%I', vn.nspname, v.relname)
from app as a cross join lateral unnest(tenantry.views_of(a.oid, 'm')) as m join pg_class as v on v.oid = m
join pg_namespace as vn on vn.oid = v.relnamespace
order by 1, 2, 3
