-- Refuses (TY003) a connection that still holds what an earlier transaction may have read of another tenant: a temporary
-- table made inside a tenant, which shadows the app's table of that name besides, or a cursor WITH HOLD. The catalogs by
-- their full names: a temporary table may be called pg_class.
create or replace function tenantry.refuse_leftovers()
returns void language plpgsql stable as $$
declare
  left_behind text;
begin
  if exists (select from pg_catalog.pg_cursors as c where c.is_holdable) then
    select c.name into left_behind from pg_catalog.pg_cursors as c where c.is_holdable limit 1;
  elsif pg_my_temp_schema() <> 0 then
    select c.oid::regclass::text into left_behind from pg_catalog.pg_class as c
    where c.relnamespace = pg_my_temp_schema() and c.relowner = 'tenantry_tenant'::regrole limit 1;
  end if;
  if left_behind is not null then
    perform tenantry.raise_error('TY003', left_behind);
  end if;
end
$$;
