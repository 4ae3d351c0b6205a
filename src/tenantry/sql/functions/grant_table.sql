-- Sets what tenants (and the bypass) may do with a table and the sequences its columns draw from, and takes every
-- right from PUBLIC. `mode`: write, read or none. Nobody keeps TRUNCATE, which asks no policy; not the owner either.
create or replace function tenantry.grant_table(relation regclass, mode text)
returns void language plpgsql as $$
declare
  owner constant text := (select quote_ident(pg_get_userbyid(relowner)) from pg_class where oid = relation);
  namespace constant regnamespace := (select relnamespace from pg_class where oid = relation);
  drawn regclass;
begin
  execute format('revoke all on %s from public, tenantry_tenant, tenantry_bypass', relation);
  execute format('revoke truncate on %s from %s', relation, owner);
  if mode <> 'none' then
    if not has_schema_privilege('tenantry_tenant', namespace, 'usage') or not has_schema_privilege('tenantry_bypass', namespace, 'usage') then
      execute format('grant usage on schema %s to tenantry_tenant, tenantry_bypass', namespace);
    end if;
    execute format('grant %s on %s to tenantry_tenant', case mode when 'write' then 'select, insert, update, delete' else 'select' end, relation);
    execute format('grant select, insert, update, delete on %s to tenantry_bypass', relation);
  end if;
  foreach drawn in array tenantry.sequences_of(relation) loop
    execute format('revoke all on sequence %s from public, tenantry_tenant, tenantry_bypass', drawn);
    if mode = 'write' then
      execute format('grant usage on sequence %s to tenantry_tenant', drawn);  -- not SELECT: last_value tells volume
    end if;
    if mode <> 'none' then
      execute format('grant usage, select, update on sequence %s to tenantry_bypass', drawn);
    end if;
  end loop;
end
$$;
