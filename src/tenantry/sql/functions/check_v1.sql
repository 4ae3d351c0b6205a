-- Everything wrong with the isolation, a row each: name, object, code, explanation, and the statement that mends it.
-- No row: every table is isolated or shared, and nothing reaches around. Reads the catalogs alone; may be called by
-- tenantry_app, in CI and from monitoring.
create or replace function tenantry.check_v1()
returns table (name text, object text, code text, explanation text, fix text) language sql stable as $$
  select * from tenantry.check_tables()
  union all select * from tenantry.check_keys()
  union all select * from tenantry.check_readers()
  union all select * from tenantry.check_followers()
  union all select * from tenantry.check_roles()
  order by code, object
$$;
