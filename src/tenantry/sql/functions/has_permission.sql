-- Whether the user holds this permission of Clerk (`org:feature:action`, `org:sys_*` too) in the current tenant; TY001
-- without one. The app itself holds all.
create or replace function tenantry.has_permission(permission text)
returns boolean language plpgsql stable parallel safe as $$
declare
  held constant text := current_setting('tenantry.permissions', true);
begin
  perform tenantry.current_tenant_id();
  return coalesce(held = '*' or tenantry.role_key(permission) = any (string_to_array(held, ',')), false);
end
$$;
