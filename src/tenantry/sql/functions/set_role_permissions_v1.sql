-- Replaces the app's map of Clerk role to app permissions.
--
-- map:     {"org:admin": ["documents:*", ...], ...}
-- returns: {"added": n, "removed": n, "unknown_roles": ["org:..."]}: mirrored roles the map does not name; they get nothing
--
-- Raises TY010 for what is no such map, or no pattern. Who may call: tenantry_app. Locks: the table, against another replacement.
create or replace function tenantry.set_role_permissions_v1(map jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  added   bigint;
  removed bigint;
  misread text;
begin
  if jsonb_typeof(map) is distinct from 'object' then
    perform tenantry.raise_error('TY010', 'the map is not {"<role>": ["<permission>", ...]}');
  elsif exists (select from jsonb_each(map) as entry(role, permissions)
                where tenantry.role_key(role) is null or jsonb_typeof(permissions) <> 'array'
                   or jsonb_path_exists(permissions, '$[*] ? (@.type() != "string")')) then
    perform tenantry.raise_error('TY010', 'a role has no name, or its permissions are no array of strings');
  end if;
  perform tenantry.check_ids(variadic array(select jsonb_object_keys(map)));
  -- The same patterns as `roles.py`.
  select pattern into misread from jsonb_each(map) as entry(role, permissions), lateral jsonb_array_elements_text(permissions) as pattern
  where length(pattern) > 200 or pattern !~ '^([a-z0-9_.-]+|\*)(:([a-z0-9_.-]+|\*))*$' limit 1;
  if found then
    perform tenantry.raise_error('TY010', format('%s is no permission: write segments of a-z, 0-9, _ . - or a * for one, joined by colons', to_jsonb(left(misread, 80))));
  end if;
  lock table tenantry.role_permissions in share row exclusive mode;
  with wanted as (
    select distinct tenantry.role_key(role) as role, permission
    from jsonb_each(map) as entry(role, permissions), lateral jsonb_array_elements_text(permissions) as permission
  ), gone as (
    delete from tenantry.role_permissions as known
    where not exists (select from wanted where (wanted.role, wanted.permission) = (known.role, known.permission))
    returning 1
  ), come as (
    insert into tenantry.role_permissions select * from wanted on conflict do nothing returning 1
  )
  select (select count(*) from come), (select count(*) from gone) into added, removed;
  return jsonb_build_object('added', added, 'removed', removed, 'unknown_roles', (
    select coalesce(jsonb_agg(distinct r.key), '[]') from tenantry.roles as r
    where r.ended_at is null and not exists (select from jsonb_object_keys(map) as k where tenantry.role_key(k) = r.key)));
end
$$;
