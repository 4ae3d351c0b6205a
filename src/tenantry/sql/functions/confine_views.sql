-- Makes every view that reads a table one that reads it with its caller's rights: see mechanics of views in
-- docs/isolation.md. Views of another owner are left to check_v1.
create or replace function tenantry.confine_views(relation regclass)
returns void language plpgsql as $$
declare
  reading regclass;
begin
  foreach reading in array tenantry.views_of(relation) loop
    if pg_has_role((select relowner from pg_class where oid = reading), 'usage') then
      execute format('alter view %s set (security_invoker = true)', reading);
    end if;
  end loop;
end
$$;
