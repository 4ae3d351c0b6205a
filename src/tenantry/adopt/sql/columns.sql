-- Their columns, in order.
select c.oid, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attnotnull
from pg_attribute as a join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped and {app}
order by c.oid, a.attnum
