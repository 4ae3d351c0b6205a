-- The app's functions in SQL and PL/pgSQL: name, language, source, whether that is parsed already, whether it runs as its
-- owner, the table whose rows it returns, whether it returns columns of its own, the tables it is a trigger of (a
-- partition's counts as its parent's), and what its triggers call the rows of a statement.
select format('%I.%I', n.nspname, p.proname), l.lanname::text, coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), p.prosqlbody is not null,
  p.prosecdef,
  coalesce((select format('%I.%I', tn.nspname, t.relname) from pg_type as y join pg_class as t on t.oid = y.typrelid
            join pg_namespace as tn on tn.oid = t.relnamespace where y.oid = p.prorettype and t.relkind in ('r', 'p')), ''),
  p.prorettype = 'record'::regtype,
  coalesce((select array_agg(distinct format('%I.%I', tn.nspname, t.relname)) from pg_trigger as g
            left join pg_class as leaf on leaf.oid = g.tgrelid and leaf.relispartition left join pg_inherits as h on h.inhrelid = leaf.oid
            join pg_class as t on t.oid = coalesce(h.inhparent, g.tgrelid) join pg_namespace as tn on tn.oid = t.relnamespace
            where g.tgfoid = p.oid and not g.tgisinternal and g.tgenabled <> 'D'), '{}'),
  coalesce((select array_agg(distinct quote_ident(x.name)) from pg_trigger as g cross join unnest(array[g.tgoldtable, g.tgnewtable]) as x(name)
            where g.tgfoid = p.oid and x.name is not null), '{}')
from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace join pg_language as l on l.oid = p.prolang
where l.lanname in ('sql', 'plpgsql') and
  n.nspname not in ('pg_catalog', 'information_schema', 'tenantry', 'tenantry_adopt') and n.nspname !~ '^pg_(toast|temp)'
  and not exists (select from pg_depend as d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
order by 1
