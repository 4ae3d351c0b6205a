-- Whether the user holds this permission of Clerk (`org:feature:action`, `org:sys_*` too) in the current tenant; TY001
-- without one. The app itself holds all.
create or replace function tenantry.has_permission(permission text)
returns boolean language plpgsql stable parallel safe as $$
declare
  context constant jsonb := tenantry.current_context();
  wanted  constant text := tenantry.role_key(permission);
begin
  return coalesce(
    context -> 'permissions' = 'null' or context -> 'permissions' ? wanted or context -> 'system_permissions' ? wanted, false);
end
$$;
