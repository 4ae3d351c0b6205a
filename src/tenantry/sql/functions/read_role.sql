-- Clerk's Role object as a row of `roles`; its permissions are objects there, keys here.
create or replace function tenantry.read_role(object jsonb, observed_at timestamptz)
returns tenantry.roles language plpgsql stable as $$
declare
  r tenantry.roles;
begin
  r.id := tenantry.clerk_text(object, 'id');
  r.key := tenantry.role_key(tenantry.clerk_text(object, 'key'));
  r.name := tenantry.clerk_text(object, 'name');
  r.description := tenantry.clerk_text(object, 'description');
  if jsonb_typeof(object -> 'permissions') = 'array' then
    r.permissions := array(
      select distinct tenantry.clerk_text(permission, 'key') from jsonb_array_elements(object -> 'permissions') as permission
      where tenantry.clerk_text(permission, 'key') is not null order by 1);
  end if;
  r.created_at := tenantry.clerk_time(object -> 'created_at');
  r.revision := tenantry.clerk_revision(object);
  r.observed_at := observed_at;
  r.content_hash := hashtextextended(jsonb_build_array(r.key, r.name, r.description, r.permissions)::text, 0);
  r.last_seen := observed_at;
  return r;
end
$$;
