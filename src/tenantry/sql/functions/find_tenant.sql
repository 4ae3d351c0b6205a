-- The tenant of this id: ours, or Clerk's of an organization or user; TY020 where there is none.
create or replace function tenantry.find_tenant(id text)
returns tenantry.tenants language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  found_tenant tenantry.tenants;
begin
  select t.* into found_tenant from tenantry.tenants as t
  where t.clerk_org_id = find_tenant.id or t.clerk_user_id = find_tenant.id or t.id::text = lower(find_tenant.id);
  if found_tenant.id is null then
    perform tenantry.raise_error('TY020', format('tenant %s', id));
  end if;
  return found_tenant;
end
$$;
