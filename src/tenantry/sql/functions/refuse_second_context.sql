-- One transaction, one tenant: refuses (TY002) where a tenant or the bypass is set.
create or replace function tenantry.refuse_second_context()
returns void language plpgsql stable as $$
begin
  if coalesce(current_setting('tenantry.tenant_id', true), '') <> '' then
    perform tenantry.raise_error('TY002', format('it is in tenant %s', current_setting('tenantry.tenant_id')));
  elsif current_setting('role') = 'tenantry_bypass' then
    perform tenantry.raise_error('TY002', 'it bypasses tenants: end_bypass_v1() first');
  end if;
end
$$;
