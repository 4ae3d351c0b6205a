-- Makes every view that reads a table one that reads it with its caller's rights, and lets tenants and the bypass
-- read it: it shows nobody more than the tables do. Views of another owner are left to check_v1.
create or replace function tenantry.confine_views(relation regclass)
returns void language plpgsql as $$
declare
  reading regclass;
begin
  foreach reading in array tenantry.views_of(relation) loop
    if pg_has_role((select relowner from pg_class where oid = reading), 'usage') then
      execute format('alter view %s set (security_invoker = true)', reading);
      execute format('grant select on %s to tenantry_tenant, tenantry_bypass', reading);
    end if;
  end loop;
end
$$;
