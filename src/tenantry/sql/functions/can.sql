-- Whether the user's role permits this by the app's own map (`role_permissions`); TY001 without a tenant.
create or replace function tenantry.can(permission text)
returns boolean language plpgsql stable parallel safe as $$
declare
  patterns constant jsonb := tenantry.current_context() -> 'app_permissions';
  pattern  text;
begin
  if patterns = 'null' then  -- the app itself
    return tenantry.permission_matches('*', permission);
  end if;
  for pattern in select jsonb_array_elements_text(patterns) loop
    if tenantry.permission_matches(pattern, permission) then
      return true;
    end if;
  end loop;
  return false;
end
$$;
