-- Remembers what a table is, so that check_v1 can tell a table that lost its isolation from one that never had any; a
-- null mode forgets it. Definer: the registry is the owner's. Who may call: tenantry_app.
create or replace function tenantry.register_isolation(
  relation regclass, mode text, tenant_column name default null, tenant_key text default null, permissions jsonb default '{}')
returns void language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  delete from tenantry.table_isolation as i where i.relation = register_isolation.relation;
  delete from tenantry.table_isolation as i where not exists (select from pg_class as c where c.oid = i.relation);
  if mode is not null then
    insert into tenantry.table_isolation values (relation, mode, tenant_column, tenant_key, permissions);
  end if;
end
$$;
