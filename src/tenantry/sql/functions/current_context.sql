-- What set_tenant_v1 or set_tenant_by_id_v1 answered in this transaction; TY001 without a tenant.
create or replace function tenantry.current_context()
returns jsonb language plpgsql stable parallel safe as $$
begin
  perform tenantry.current_tenant_id();
  return nullif(pg_catalog.current_setting('tenantry.context', true), '');
end
$$;
