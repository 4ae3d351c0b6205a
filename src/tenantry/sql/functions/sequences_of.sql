-- The sequences that a table's columns own or draw their defaults from.
create or replace function tenantry.sequences_of(relation regclass)
returns regclass[] language sql stable as $$
  select coalesce(array_agg(distinct s.oid::regclass), '{}')
  from pg_class as s
  where s.relkind = 'S' and (
    exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = s.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.deptype in ('a', 'i'))
    or exists (select from pg_depend as d join pg_attrdef as f on f.oid = d.objid
               where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = s.oid and f.adrelid = relation))
$$;
