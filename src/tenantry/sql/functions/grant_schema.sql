-- Lets tenants and the bypass name what is in a schema; TY030 where the caller may not grant that.
create or replace function tenantry.grant_schema(namespace regnamespace)
returns void language plpgsql as $$
begin
  if has_schema_privilege('tenantry_tenant', namespace, 'usage') and has_schema_privilege('tenantry_bypass', namespace, 'usage') then
    return;
  elsif not has_schema_privilege(namespace, 'usage with grant option') then
    perform tenantry.raise_error('TY030', format(
      'tenants may not use the schema %s, and %I may not let them: its owner runs "grant usage on schema %1$s to tenantry_tenant, tenantry_bypass"',
      namespace, current_user));
  end if;
  execute format('grant usage on schema %s to tenantry_tenant, tenantry_bypass', namespace);
end
$$;
