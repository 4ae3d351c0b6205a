-- The context of the app itself in a tenant: no user, no role, every permission.
create or replace function tenantry.describe_app(tenant tenantry.tenants)
returns jsonb language sql stable parallel safe as $$
  select jsonb_build_object('tenant_id', tenant.id, 'org_id', tenant.clerk_org_id, 'slug', tenant.slug, 'name', tenant.name,
    'user_id', null, 'role', null, 'role_source', 'app', 'permissions', null, 'system_permissions', null, 'app_permissions', null)
$$;
