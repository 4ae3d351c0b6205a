-- Makes a context that of this transaction and switches to the role tenantry_tenant. Everything it sets is local to
-- the transaction, so nothing is left on a pooled connection. `null` permissions: all (the app itself acts).
create or replace function tenantry.enter_tenant(context jsonb)
returns jsonb language plpgsql as $$
declare
  -- A permission of Clerk begins with `org:`; nothing else, a lone `*` above all, may come to mean more.
  held constant text := case when context -> 'permissions' = 'null' then '*' else
    (select string_agg(p, ',') from (
      select jsonb_array_elements_text(context -> 'permissions') union all select jsonb_array_elements_text(context -> 'system_permissions')) as x(p)
     where p ~ '^org:[^,]+$')
  end;
begin
  perform tenantry.refuse_leftovers();
  perform
    set_config('tenantry.tenant_id', context ->> 'tenant_id', true),
    set_config('tenantry.org_id', coalesce(context ->> 'org_id', ''), true),
    set_config('tenantry.user_id', coalesce(context ->> 'user_id', ''), true),
    set_config('tenantry.role', coalesce(context ->> 'role', ''), true),
    set_config('tenantry.permissions', coalesce(held, ''), true),
    set_config('tenantry.app_permissions', case when context -> 'app_permissions' = 'null' then '*' else
      coalesce((select string_agg(p, ',') from jsonb_array_elements_text(context -> 'app_permissions') as p), '') end, true),
    set_config('role', 'tenantry_tenant', true);
  return context;
end
$$;
