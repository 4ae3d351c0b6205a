-- The tables that a tenant sees in part: the app's isolated ones, and those of the mirror.
create or replace function tenantry.confined_tables()
returns setof regclass language sql stable as $$
  select i.relation from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation where i.mode = 'isolated'
  union all
  select c.oid::regclass from pg_class as c where c.relnamespace = 'tenantry'::regnamespace and c.relkind = 'r' and c.relrowsecurity
$$;
