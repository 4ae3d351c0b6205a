-- Makes a context that of this transaction and switches to the role tenantry_tenant. Everything it sets is local to
-- the transaction, so nothing is left on a pooled connection. `null` permissions: all (the app itself acts).
create or replace function tenantry.enter_tenant(context jsonb)
returns jsonb language plpgsql as $$
begin
  perform
    tenantry.refuse_leftovers(),
    set_config('tenantry.tenant_id', context ->> 'tenant_id', true),
    set_config('tenantry.org_id', coalesce(context ->> 'org_id', ''), true),
    set_config('tenantry.user_id', coalesce(context ->> 'user_id', ''), true),
    set_config('tenantry.context', context::text, true),
    set_config('role', 'tenantry_tenant', true);
  return context;
end
$$;
