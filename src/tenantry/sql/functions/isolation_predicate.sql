-- The predicate of a table's isolation policies. A scalar subselect runs once a query where a bare call, as a filter,
-- runs once a row; Citus refuses subselects in policies, and gets the call.
create or replace function tenantry.isolation_predicate(tenant_column name, tenant_key text)
returns text language plpgsql stable as $$
declare
  call constant text := format('tenantry.current_%s()', case tenant_key when 'id' then 'tenant_id' else 'org_id' end);
begin
  if exists (select from pg_extension where extname = 'citus') then
    return format('%I = %s', tenant_column, call);
  end if;
  return format('%I = (select %s)', tenant_column, call);
end
$$;
