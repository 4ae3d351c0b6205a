-- Takes a table out of isolation: policies, row level security and grants go; the column, its index and the foreign
-- key stay. Every tenant's rows are then open to whoever has rights on the table: check_v1 says so.
-- Who may call: the table's owner, without a tenant.
create or replace function tenantry.drop_isolation_v1(relation regclass)
returns jsonb language plpgsql as $$
declare
  parts constant regclass[] := relation || tenantry.partitions_of(relation);
  isolation tenantry.table_isolation;
  owner     name;
  part      regclass;
begin
  perform tenantry.refuse_second_context();
  select i.* into isolation from tenantry.table_isolation as i where i.relation = drop_isolation_v1.relation and i.mode = 'isolated';
  select pg_get_userbyid(c.relowner) into owner from pg_class as c where c.oid = relation;
  if isolation.relation is null then
    perform tenantry.raise_error('TY030', format('%s is not isolated', coalesce(relation::text, 'null')));
  elsif not pg_has_role(owner, 'usage') then
    perform tenantry.raise_error('TY030', format('%s belongs to %I: only its owner may do this, and you are %I', relation, owner, current_user));
  end if;
  foreach part in array parts loop
    perform tenantry.register_isolation(part, null);
  end loop;
  foreach part in array parts loop
    perform tenantry.remove_policies(part);
    execute format('alter table %s no force row level security', part);
    execute format('alter table %s disable row level security', part);
    perform tenantry.grant_table(part, 'none');
    execute format('alter table %s alter column %I drop default', part, isolation.tenant_column);
  end loop;
  return jsonb_build_object('table', relation);
end
$$;
