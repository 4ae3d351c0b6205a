-- Remembers that a table follows, and that it has all organizations yet to copy. Definer: the registry is the owner's.
-- Who may call: tenantry_app. Locks: tenants (SHARE), so that no merge under way passes the table by.
create or replace function tenantry.register_follower(relation regclass, routine text, org_column name, columns jsonb)
returns void language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
begin
  lock table tenantry.tenants in share mode;
  insert into tenantry.followers (relation, routine, org_column, columns)
  values (register_follower.relation, register_follower.routine, register_follower.org_column, register_follower.columns)
  on conflict (relation) do update set routine = excluded.routine, org_column = excluded.org_column, columns = excluded.columns;
  insert into tenantry.follower_gaps (relation, tenant_id)
  select register_follower.relation, t.id from tenantry.tenants as t where t.clerk_org_id is not null
  on conflict (relation, tenant_id) do update set attempts = 0, at = null;
end
$$;
