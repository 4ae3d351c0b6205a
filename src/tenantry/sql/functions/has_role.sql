-- Whether the user has this role (with or without `org:`) in the current tenant; TY001 without one.
create or replace function tenantry.has_role(role text)
returns boolean language plpgsql stable parallel safe as $$
begin
  return coalesce(tenantry.role_key(role) = tenantry.current_context() ->> 'role', false);
end
$$;
