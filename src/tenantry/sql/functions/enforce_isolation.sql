-- Row level security for one table, on and forced, with these policies, made anew:
--   tenantry_isolation   restrictive: rows of the current tenant alone; a stray permissive policy cannot widen it
--   tenantry_access      permissive: without one the restrictive policy never runs, and a query without a tenant would
--                        get no rows instead of an error
--   tenantry_bypass      permissive, for transactions across tenants
--   tenantry_may_<cmd>   restrictive: the member's permission
-- For tenantry_tenant, which the app's logins inherit, and for the owner, who would get silence instead of an error.
create or replace function tenantry.enforce_isolation(relation regclass, tenant_column name, tenant_key text, permissions jsonb)
returns void language plpgsql as $$
declare
  owner     constant text := (select quote_ident(pg_get_userbyid(relowner)) from pg_class where oid = relation);
  confined  constant text := 'tenantry_tenant, ' || owner;
  predicate constant text := tenantry.isolation_predicate(tenant_column, tenant_key);
  command   text;
  check_of  text;
begin
  perform tenantry.remove_policies(relation);
  execute format('alter table %s enable row level security', relation);
  execute format('alter table %s force row level security', relation);
  execute format('create policy tenantry_isolation on %s as restrictive for all to %s using (%s) with check (%3$s)', relation, confined, predicate);
  execute format('create policy tenantry_access on %s for all to %s using (true) with check (true)', relation, confined);
  execute format('create policy tenantry_bypass on %s for all to tenantry_bypass using (true) with check (true)', relation);
  for command in select jsonb_object_keys(permissions) order by 1 loop
    check_of := format('(select tenantry.%s(%L))',
      case when permissions ->> command like 'org:%' then 'has_permission' else 'can' end, permissions ->> command);
    execute format('create policy tenantry_may_%1$s on %2$s as restrictive for %1$s to %3$s %4$s', command, relation, confined,
      case command when 'insert' then format('with check (%s)', check_of) else format('using (%s)', check_of) end);
  end loop;
end
$$;
