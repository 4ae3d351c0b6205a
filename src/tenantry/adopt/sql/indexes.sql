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
      and (a.atttypid = 'uuid'::regtype or (x.indisprimary and (a.atthasdef or a.attidentity <> '')))),
  coalesce(obj_description(k.oid, 'pg_constraint'), ''),
  -- of the table's own index, and of each partition's: its table, options, tablespace, comment, and whether CLUSTER goes by it
  (select array_agg(array[to_jsonb(format('%I.%I', tn.nspname, t.relname)),
      to_jsonb(coalesce((select string_agg(format('%I=%L', o.option_name, o.option_value), ', ') from pg_options_to_table(p.reloptions) as o), '')),
      to_jsonb(coalesce((select quote_ident(s.spcname) from pg_tablespace as s where s.oid = p.reltablespace), '')),
      to_jsonb(coalesce(obj_description(p.oid, 'pg_class'), '')), to_jsonb(y.indisclustered)] order by p.oid <> i.oid, t.relname)
   from pg_index as y join pg_class as p on p.oid = y.indexrelid join pg_class as t on t.oid = y.indrelid
   join pg_namespace as tn on tn.oid = t.relnamespace
   where p.oid = i.oid or p.oid in (select h.inhrelid from pg_inherits as h where h.inhparent = i.oid))
from pg_index as x join pg_class as i on i.oid = x.indexrelid join pg_am as m on m.oid = i.relam
join pg_class as c on c.oid = x.indrelid join pg_namespace as n on n.oid = c.relnamespace
left join pg_constraint as k on k.conindid = x.indexrelid and k.conrelid = c.oid and k.contype in ('p', 'u', 'x')
where c.relkind in ('r', 'p') and {app}
order by 1, 2
