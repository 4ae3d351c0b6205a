-- Their indexes. One is told in columns where each is one, in its type's default order and its own collation.
select c.oid, quote_ident(i.relname),
  array(select pg_get_indexdef(x.indexrelid, k, true) from generate_series(1, x.indnkeyatts) as k),
  array(select pg_get_indexdef(x.indexrelid, k, true) from generate_series(x.indnkeyatts + 1, x.indnatts) as k),
  x.indisunique, x.indisprimary,
  m.amname = 'btree' and not 0 = any (x.indkey) and not x.indisexclusion
    and not exists (
      select from generate_series(0, x.indnkeyatts - 1) as k
      join pg_opclass as o on o.oid = x.indclass[k]
      left join pg_attribute as a on a.attrelid = c.oid and a.attnum = x.indkey[k]
      where not o.opcdefault or x.indoption[k] <> 0 or x.indcollation[k] is distinct from a.attcollation),
  x.indisvalid, coalesce(quote_ident(k.conname), ''), x.indnullsnotdistinct, not x.indimmediate,
  coalesce(pg_get_expr(x.indpred, x.indrelid), ''),
  x.indnkeyatts = 1 and exists (
    select from pg_attribute as a where a.attrelid = c.oid and a.attnum = x.indkey[0]
      and (a.atttypid = 'uuid'::regtype or (x.indisprimary and (a.atthasdef or a.attidentity <> ''))))
from pg_index as x join pg_class as i on i.oid = x.indexrelid join pg_am as m on m.oid = i.relam
join pg_class as c on c.oid = x.indrelid join pg_namespace as n on n.oid = c.relnamespace
left join pg_constraint as k on k.conindid = x.indexrelid and k.conrelid = c.oid and k.contype in ('p', 'u', 'x')
where c.relkind in ('r', 'p') and 
  n.nspname not in ('pg_catalog', 'information_schema', 'tenantry', 'tenantry_adopt') and n.nspname !~ '^pg_(toast|temp)'
  and not exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by 1, 2
