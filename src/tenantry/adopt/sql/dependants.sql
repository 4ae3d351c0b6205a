-- What cannot do without their keys and indexes: table, its index, kind, object, of a foreign key the table it is of, and
-- what the object is. What depends on a partition's key counts as depending on its parent's.
with keys as (
  select r.indrelid as relation, r.indexrelid as root, x.indexrelid as index, k.oid as key
  from pg_index as x left join pg_inherits as h on h.inhrelid = x.indexrelid
  join pg_index as r on r.indexrelid = coalesce(h.inhparent, x.indexrelid)
  left join pg_constraint as k on k.conindid = x.indexrelid and k.conrelid = x.indrelid and k.contype in ('p', 'u', 'x')
), named as (
  select k.relation, k.root, 'pg_class'::regclass as class, k.index as oid from keys as k
  union all
  select k.relation, k.root, 'pg_constraint'::regclass, k.key from keys as k
), needed as (
  select k.relation, k.root, d.classid, d.objid
  from named as k join pg_depend as d on d.refclassid = k.class and d.refobjid = k.oid and d.deptype = 'n'
)
select distinct format('%I.%I', n.nspname, c.relname), quote_ident(i.relname),
  case when f.oid is not null then 'foreign key' when v.relkind = 'v' then 'view' when v.relkind = 'm' then 'materialized view'
       when p.oid is not null then 'function' else '' end,
  coalesce(quote_ident(f.conname), format('%I.%I', vn.nspname, v.relname), p.oid::regprocedure::text, pg_describe_object(d.classid, d.objid, 0)),
  coalesce((select format('%I.%I', tn.nspname, t.relname) from pg_class as t join pg_namespace as tn on tn.oid = t.relnamespace where t.oid = f.conrelid), ''),
  coalesce(pg_get_constraintdef(f.oid), pg_get_viewdef(v.oid), '')
from needed as d
join pg_class as c on c.oid = d.relation join pg_namespace as n on n.oid = c.relnamespace join pg_class as i on i.oid = d.root
left join pg_constraint as f on d.classid = 'pg_constraint'::regclass and f.oid = d.objid
left join pg_rewrite as w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid and w.rulename = '_RETURN'
left join pg_class as v on v.oid = w.ev_class left join pg_namespace as vn on vn.oid = v.relnamespace
left join pg_proc as p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
where (f.oid is null or f.conparentid = 0) and
  n.nspname not in ('pg_catalog', 'information_schema', 'tenantry', 'tenantry_adopt') and n.nspname !~ '^pg_(toast|temp)'
order by 1, 2, 3, 4
