-- Clerk's OrganizationMembership object as a row of `tenant_memberships`.
create or replace function tenantry.read_membership(object jsonb, tenant_id uuid, user_id text, observed_at timestamptz)
returns tenantry.tenant_memberships language plpgsql stable as $$
declare
  m tenantry.tenant_memberships;
begin
  m.id := tenantry.clerk_text(object, 'id');
  m.tenant_id := tenant_id;
  m.user_id := user_id;
  m.role := tenantry.role_key(tenantry.clerk_text(object, 'role'));
  m.permissions := coalesce(tenantry.clerk_texts(object, 'permissions'), '{}');
  m.public_metadata := tenantry.clerk_object(object, 'public_metadata');
  m.created_at := tenantry.clerk_time(object -> 'created_at');
  m.revision := tenantry.clerk_revision(object);
  m.observed_at := observed_at;
  m.content_hash := hashtextextended(jsonb_build_array(m.role, m.permissions, m.public_metadata)::text, 0);
  m.last_seen := observed_at;
  return m;
end
$$;
