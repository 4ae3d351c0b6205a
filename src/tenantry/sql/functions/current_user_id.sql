-- The Clerk user this transaction acts for; null where the app itself acts; TY001 without a tenant.
create or replace function tenantry.current_user_id()
returns text language plpgsql stable parallel safe as $$
begin
  perform tenantry.current_tenant_id();
  return nullif(pg_catalog.current_setting('tenantry.user_id', true), '');
end
$$;
