-- Sets what tenants (and the bypass) may do with a table and the sequences its columns draw from, and takes every
-- right from PUBLIC. `mode`: write, read or none, where the bypass reads, for dumps. Nobody keeps TRUNCATE, which asks no
-- policy; not the owner either.
create or replace function tenantry.grant_table(relation regclass, mode text)
returns void language plpgsql as $$
declare
  namespace constant regnamespace := (select relnamespace from pg_class where oid = relation);
  grantee text;
begin
  execute format('revoke all on %s from public, tenantry_tenant, tenantry_bypass', relation);
  for grantee in
    select distinct case when g.grantee = 0 then 'public' else g.grantee::regrole::text end
    from pg_class as c cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as g
    where c.oid = relation and g.privilege_type = 'TRUNCATE'
  loop
    execute format('revoke truncate on %s from %s', relation, grantee);
  end loop;
  if mode <> 'none' then
    perform tenantry.grant_schema(namespace);
    execute format('grant %s on %s to tenantry_tenant', case mode when 'write' then 'select, insert, update, delete' else 'select' end, relation);
  end if;
  execute format('grant %s on %s to tenantry_bypass', case mode when 'none' then 'select' else 'select, insert, update, delete' end, relation);
  perform tenantry.grant_sequences(relation, mode);
end
$$;
