-- The views (kind 'v') or materialized views ('m') that read a table, directly or through other views.
create or replace function tenantry.views_of(relation regclass, kind "char" default 'v')
returns regclass[] language sql stable as $$
  with recursive reading(oid) as (
    select relation::oid
    union
    select r.ev_class from reading
    join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = reading.oid and d.classid = 'pg_rewrite'::regclass
    join pg_rewrite as r on r.oid = d.objid and r.ev_class <> reading.oid
  )
  select coalesce(array_agg(distinct c.oid::regclass), '{}') from reading join pg_class as c on c.oid = reading.oid where c.relkind = kind
$$;
