-- Clerk's Permission object as a row of `permissions`.
create or replace function tenantry.read_permission(object jsonb, observed_at timestamptz)
returns tenantry.permissions language plpgsql stable as $$
declare
  p tenantry.permissions;
begin
  p.id := tenantry.clerk_text(object, 'id');
  p.key := tenantry.clerk_text(object, 'key');
  p.name := tenantry.clerk_text(object, 'name');
  p.description := tenantry.clerk_text(object, 'description');
  p.type := tenantry.clerk_text(object, 'type');
  p.created_at := tenantry.clerk_time(object -> 'created_at');
  p.revision := tenantry.clerk_revision(object);
  p.observed_at := observed_at;
  p.content_hash := hashtextextended(jsonb_build_array(p.key, p.name, p.description, p.type)::text, 0);
  p.last_seen := observed_at;
  return p;
end
$$;
