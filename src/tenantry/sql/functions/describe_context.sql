-- The context of a decision: who acts where, as what, and what that permits.
--
-- `permissions` are the token's while it lasts and its role holds as it was; where the mirror has another role for the
-- member, or a newer definition of the role, those of the mirrored role, limited to the features the token's plan has. `system_permissions` (`org:sys_*`) are never in a token and always the mirrored
-- role's. `app_permissions` are the app's own map; a personal account has no role, and its owner may do everything in
-- it. `features`, of the token, is null where it tells none.
create or replace function tenantry.describe_context(
  identity jsonb, tenant tenantry.tenants, user_id text, role text, membership tenantry.tenant_memberships)
returns jsonb language plpgsql stable as $$
declare
  of_role     text[] := tenantry.permissions_of_role(role);
  permissions text[];
  from_token  constant boolean := identity <> '{}'
    and role is not distinct from tenantry.role_key(tenantry.clerk_text(identity, 'role'))
    and tenantry.clerk_time(identity -> 'expires_at') > now()
    and not exists (
      select from tenantry.roles as r
      where r.key = describe_context.role and r.ended_at is null
        and tenantry.clerk_time(identity -> 'issued_at') <= date_trunc('second', r.observed_at));
begin
  if of_role is null and membership.role = describe_context.role then
    of_role := membership.permissions;
  end if;
  if from_token then
    permissions := coalesce(tenantry.clerk_texts(identity, 'permissions'), '{}');
  else
    permissions := array(
      select p from unnest(of_role) as p
      where p not like 'org:sys\_%'
        and (jsonb_typeof(identity -> 'features') is distinct from 'array' or identity -> 'features' ? split_part(p, ':', 2))
      order by p);
  end if;
  return jsonb_build_object(
    'tenant_id', tenant.id,
    'org_id', coalesce(tenant.clerk_org_id, tenantry.clerk_text(identity, 'org_id')),
    'slug', coalesce(tenant.slug, tenantry.clerk_text(identity, 'org_slug')),
    'name', tenant.name,
    'user_id', user_id,
    'role', role,
    'role_source', case when from_token then 'token' else 'mirror' end,
    'permissions', to_jsonb(permissions),
    'system_permissions', to_jsonb(array(select p from unnest(of_role) as p where p like 'org:sys\_%' order by p)),
    'app_permissions', case when tenant.clerk_user_id is null
      then to_jsonb(array(select rp.permission from tenantry.role_permissions as rp where rp.role = describe_context.role order by 1))
      else '["*"]' end);
end
$$;
