-- Their columns, in order.
select c.oid, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attnotnull
from pg_attribute as a join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped and 
  n.nspname not in ('pg_catalog', 'information_schema', 'tenantry', 'tenantry_adopt') and n.nspname !~ '^pg_(toast|temp)'
  and not exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by c.oid, a.attnum
