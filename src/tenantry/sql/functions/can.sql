-- Whether the user's role permits this by the app's own map (`role_permissions`); TY001 without a tenant.
create or replace function tenantry.can(permission text)
returns boolean language plpgsql stable parallel safe as $$
declare
  pattern text;
begin
  perform tenantry.current_tenant_id();
  foreach pattern in array string_to_array(current_setting('tenantry.app_permissions', true), ',') loop
    if tenantry.permission_matches(pattern, permission) then
      return true;
    end if;
  end loop;
  return false;
end
$$;
