-- The context for work without a token: see set_tenant_by_id_v1. Reads only.
create or replace function tenantry.resolve_tenant(tenant_id uuid, user_id text)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  tenant     tenantry.tenants;
  person     tenantry.users;
  membership tenantry.tenant_memberships;
begin
  select * into tenant from tenantry.tenants as t where t.id = resolve_tenant.tenant_id;
  if tenant.id is null then
    perform tenantry.raise_error('TY020', format('tenant %s', tenant_id));
  elsif tenant.ended_at is not null then
    perform tenantry.raise_error('TY013', format('tenant %s', tenant_id));
  elsif user_id is null then
    return tenantry.describe_app(tenant);
  end if;

  select * into person from tenantry.users as u where u.id = resolve_tenant.user_id;
  if person.ended_at is not null then
    perform tenantry.raise_error('TY014', format('user %s', user_id));
  elsif person.banned then
    perform tenantry.raise_error('TY015', format('user %s', user_id));
  end if;
  select * into membership from tenantry.tenant_memberships as m
  where m.tenant_id = tenant.id and m.user_id = resolve_tenant.user_id
  order by m.created_at desc nulls last, m.id desc limit 1;
  if tenant.clerk_user_id is distinct from user_id and (membership.id is null or membership.ended_at is not null) then
    perform tenantry.raise_error('TY012', format('user %s, tenant %s', user_id, tenant_id));
  end if;
  return tenantry.describe_context(null, tenant, user_id, membership.role, membership.permissions, null);
end
$$;
