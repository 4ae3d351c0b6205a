-- Takes a table out of isolation: policies, row level security and grants go; the column, its index and the foreign
-- key stay. Every tenant's rows are then open to whoever has rights on the table: check_v1 says so.
-- Who may call: the table's owner, without a tenant.
create or replace function tenantry.drop_isolation_v1(relation regclass)
returns jsonb language plpgsql as $$
declare
  part regclass;
begin
  perform tenantry.refuse_second_context();
  if not exists (select from tenantry.table_isolation as i where i.relation = drop_isolation_v1.relation and i.mode = 'isolated') then
    perform tenantry.raise_error('TY030', format('%s is not isolated', relation));
  end if;
  foreach part in array relation || tenantry.partitions_of(relation) loop
    perform tenantry.remove_policies(part);
    execute format('alter table %s no force row level security', part);
    execute format('alter table %s disable row level security', part);
    perform tenantry.grant_table(part, 'none');
    execute format('alter table %s alter column %I drop default', part,
      (select tenant_column from tenantry.table_isolation as i where i.relation = drop_isolation_v1.relation));
  end loop;
  foreach part in array tenantry.partitions_of(relation) || relation loop
    perform tenantry.register_isolation(part, null);
  end loop;
  return jsonb_build_object('table', relation);
end
$$;
