-- The context of a decision: who acts where, as what, and what that permits.
--
-- `permissions` are the token's while it lasts and its role holds as it was; where the mirror has another role for the
-- member, or a newer definition of the role, those of the mirrored role, limited to the features the token's plan has.
-- `system_permissions` (`org:sys_*`) are never in a token and always the mirrored role's. `app_permissions` are the
-- app's own map; a personal account has no role, and its owner may do everything in it.
--
-- shown:  the permissions Clerk showed with the membership, for a role whose definition the mirror has not seen
-- issued: when the token was, while it lasts and its role holds; else null
create or replace function tenantry.describe_context(
  facts tenantry.identity_facts, tenant tenantry.tenants, user_id text, role text, shown text[], issued timestamptz)
returns jsonb language plpgsql stable as $$
declare
  granted     tenantry.role_grants;
  permissions jsonb;
  from_token  boolean;
begin
  select * into granted from tenantry.role_grants as g where g.role = describe_context.role;
  if granted.permissions is null and shown is not null then
    granted.permissions := to_jsonb(array(select p from unnest(shown) as p where p not like 'org:sys\_%' order by p));
    granted.system_permissions := to_jsonb(array(select p from unnest(shown) as p where p like 'org:sys\_%' order by p));
  end if;
  from_token := issued is not null and (granted.observed_at is null or issued > granted.observed_at);
  if from_token then
    permissions := case jsonb_typeof(facts.permissions) when 'array' then facts.permissions end;
  elsif jsonb_typeof(facts.features) = 'array' then
    permissions := to_jsonb(array(
      select p from jsonb_array_elements_text(granted.permissions) as p where facts.features ? split_part(p, ':', 2)));
  else
    permissions := granted.permissions;
  end if;
  return jsonb_build_object(
    'tenant_id', tenant.id,
    'org_id', coalesce(tenant.clerk_org_id, nullif(facts.org_id, '')),
    'slug', coalesce(tenant.slug, nullif(facts.org_slug, '')),
    'name', tenant.name,
    'user_id', user_id,
    'role', role,
    'role_source', case when from_token then 'token' else 'mirror' end,
    'permissions', coalesce(permissions, '[]'),
    'system_permissions', coalesce(granted.system_permissions, '[]'),
    'app_permissions', case when tenant.clerk_user_id is null then coalesce(granted.app_permissions, '[]') else '["*"]' end);
end
$$;
