-- Remembers that a table follows, and that it has all organizations yet to copy. The routine is one of the table's owner,
-- and a definer: its name is taken from the catalog, never from the caller. Definer: the registry is the owner's.
-- Who may call: the table's owner. Locks: tenants (SHARE), so that no merge under way passes the table by.
create or replace function tenantry.register_follower(relation regclass, routine text, org_column name, columns jsonb)
returns void language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
declare
  named text;
begin
  perform tenantry.refuse_stranger(relation);
  select format('%I.%I', n.nspname, p.proname) into named
  from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
  join pg_class as c on c.oid = register_follower.relation and c.relowner = p.proowner
  where p.oid = to_regprocedure(register_follower.routine || '(jsonb)') and p.prosecdef;
  if named is null then
    perform tenantry.raise_error('TY010', 'the routine is no definer function of the table''s owner');
  end if;
  lock table tenantry.tenants in share mode;
  insert into tenantry.followers (relation, routine, org_column, columns)
  values (register_follower.relation, named, register_follower.org_column, register_follower.columns)
  on conflict (relation) do update set routine = excluded.routine, org_column = excluded.org_column, columns = excluded.columns;
  insert into tenantry.follower_gaps (relation, tenant_id)
  select register_follower.relation, t.id from tenantry.tenants as t where t.clerk_org_id is not null
  on conflict (relation, tenant_id) do update set attempts = 0, at = null;
end
$$;
