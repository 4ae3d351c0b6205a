-- The app's tables by OID: their columns by number, and the OIDs of their partitions by name.
select c.oid::bigint, format('%I.%I', n.nspname, c.relname),
  coalesce((select jsonb_object_agg(a.attnum, quote_ident(a.attname)) from pg_attribute as a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '{}'),
  coalesce((select jsonb_object_agg(format('%I.%I', pn.nspname, p.relname), p.oid::bigint)
            from pg_inherits as h join pg_class as p on p.oid = h.inhrelid join pg_namespace as pn on pn.oid = p.relnamespace
            where h.inhparent = c.oid and c.relkind = 'p'), '{}')
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and
  n.nspname not in ('pg_catalog', 'information_schema', 'tenantry', 'tenantry_adopt') and n.nspname !~ '^pg_(toast|temp)'
