-- States that a table belongs to no tenant.
--
-- mode: read    every tenant may read it (countries, plans)
--       write   every tenant may read and write it, its sequences included
--       none    no tenant sees it: bookkeeping of the app itself
-- Who may call: the table's owner, without a tenant.
create or replace function tenantry.share_table_v1(relation regclass, mode text)
returns jsonb language plpgsql as $$
declare
  kind  "char";
  owner oid;
  part  regclass;
begin
  perform tenantry.refuse_second_context();
  select c.relkind, c.relowner into kind, owner from pg_class as c where c.oid = relation;
  if mode is null or mode not in ('read', 'write', 'none') then
    perform tenantry.raise_error('TY010', format('mode %L is none of read, write, none', mode));
  elsif kind is null or kind not in ('r', 'p') then
    perform tenantry.raise_error('TY030', format('%s is no table', coalesce(relation::text, 'null')));
  elsif exists (select from tenantry.table_isolation as i where i.relation = share_table_v1.relation and i.mode = 'isolated') then
    perform tenantry.raise_error('TY030', format('%s is isolated: drop_isolation_v1 first', relation));
  elsif not pg_has_role(owner, 'usage') then
    perform tenantry.raise_error('TY030', format('%s belongs to %I: only its owner may share it, and you are %I', relation, pg_get_userbyid(owner), current_user));
  end if;
  perform tenantry.register_isolation(relation, mode);
  perform tenantry.grant_table(relation, mode);
  foreach part in array tenantry.partitions_of(relation) loop
    perform tenantry.grant_table(part, 'none');  -- reached through the parent alone
  end loop;
  return jsonb_build_object('table', relation, 'mode', mode);
end
$$;
