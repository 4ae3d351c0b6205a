-- A membership as the feed shows it: see describe.
create or replace function tenantry.describe_member(m tenantry.tenant_memberships)
returns jsonb language sql stable parallel safe as $$
  select jsonb_build_object('id', m.id, 'tenant_id', m.tenant_id, 'user_id', m.user_id, 'role', m.role,
    'permissions', m.permissions, 'public_metadata', m.public_metadata, 'created_at', m.created_at)
$$;
