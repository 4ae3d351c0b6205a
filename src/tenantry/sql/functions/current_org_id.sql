-- The Clerk organization of this transaction; TY001 without a tenant, TY040 in a personal account.
create or replace function tenantry.current_org_id()
returns text language plpgsql stable parallel safe as $$
declare
  id constant text := pg_catalog.current_setting('tenantry.org_id', true);
begin
  if id is null or id operator(pg_catalog.=) '' then
    perform tenantry.current_tenant_id();
    perform tenantry.raise_error('TY040');
  end if;
  return id;
end
$$;
