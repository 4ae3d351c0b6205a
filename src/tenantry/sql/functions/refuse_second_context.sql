-- One transaction, one tenant: refuses (TY002) where a tenant or the bypass is set. The role tells too, since RESET ALL
-- forgets the tenant and keeps the role.
create or replace function tenantry.refuse_second_context()
returns void language plpgsql stable as $$
begin
  if coalesce(current_setting('tenantry.tenant_id', true), '') <> '' then
    perform tenantry.raise_error('TY002', format('it is in tenant %s', current_setting('tenantry.tenant_id')));
  elsif current_setting('role') = 'tenantry_tenant' then
    perform tenantry.raise_error('TY002', 'it was in a tenant');
  elsif current_setting('role') = 'tenantry_bypass' then
    perform tenantry.raise_error('TY002', 'it bypasses tenants: end_bypass_v1() first');
  end if;
end
$$;
