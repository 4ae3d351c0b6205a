-- Clerk's Organization object as a row of `tenants`. Volatile counters are not content: they would make every
-- second snapshot a tie.
create or replace function tenantry.read_tenant(object jsonb, observed_at timestamptz, seen_at timestamptz)
returns tenantry.tenants language plpgsql stable as $$
declare
  t tenantry.tenants;
begin
  t.clerk_org_id := tenantry.clerk_text(object, 'id');
  t.id := tenantry.tenant_id_of(t.clerk_org_id);
  t.name := tenantry.clerk_text(object, 'name');
  t.slug := tenantry.clerk_text(object, 'slug');
  t.image_url := tenantry.clerk_text(object, 'image_url');
  t.public_metadata := tenantry.clerk_object(object, 'public_metadata');
  t.role_set_key := tenantry.clerk_text(object, 'role_set_key');
  t.created_at := tenantry.clerk_time(object -> 'created_at');
  t.revision := tenantry.clerk_revision(object);
  t.observed_at := observed_at;
  t.content_hash := hashtextextended(jsonb_build_array(t.name, t.slug, t.image_url, t.public_metadata, t.role_set_key)::text, 0);
  t.last_seen := seen_at;
  return t;
end
$$;
