-- Clerk's OrganizationInvitation object as a row of `invitations`. `status` is what its event says where the object
-- itself has none. The link to accept is a secret and is not kept.
create or replace function tenantry.read_invitation(object jsonb, tenant_id uuid, observed_at timestamptz, status text default null)
returns tenantry.invitations language plpgsql stable as $$
declare
  i tenantry.invitations;
begin
  i.id := tenantry.clerk_text(object, 'id');
  i.tenant_id := tenant_id;
  i.email_address := tenantry.clerk_text(object, 'email_address');
  i.role := tenantry.role_key(tenantry.clerk_text(object, 'role'));
  i.status := coalesce(status, tenantry.clerk_text(object, 'status'));
  i.inviter_id := tenantry.clerk_text(object, 'inviter_id');
  i.user_id := tenantry.clerk_text(object, 'user_id');
  i.public_metadata := tenantry.clerk_object(object, 'public_metadata');
  i.expires_at := tenantry.clerk_time(object -> 'expires_at');
  i.created_at := tenantry.clerk_time(object -> 'created_at');
  i.revision := tenantry.clerk_revision(object);
  i.observed_at := observed_at;
  i.content_hash := hashtextextended(jsonb_build_array(
    i.email_address, i.role, i.status, i.user_id, i.public_metadata, extract(epoch from i.expires_at))::text, 0);  -- in no time zone
  i.last_seen := observed_at;
  return i;
end
$$;
