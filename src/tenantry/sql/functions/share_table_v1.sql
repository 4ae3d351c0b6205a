-- States that a table belongs to no tenant.
--
-- mode: read    every tenant may read it (countries, plans)
--       write   every tenant may read and write it, its sequences included
--       none    no tenant sees it: bookkeeping of the app itself
-- Who may call: the table's owner, without a tenant.
create or replace function tenantry.share_table_v1(relation regclass, mode text)
returns jsonb language plpgsql as $$
begin
  perform tenantry.refuse_second_context();
  if mode is null or mode not in ('read', 'write', 'none') then
    perform tenantry.raise_error('TY010', format('mode %L is none of read, write, none', mode));
  elsif exists (select from tenantry.table_isolation as i where i.relation = share_table_v1.relation and i.mode = 'isolated') then
    perform tenantry.raise_error('TY030', format('%s is isolated: drop_isolation_v1 first', relation));
  elsif (select relkind not in ('r', 'p') from pg_class where oid = relation) then
    perform tenantry.raise_error('TY030', format('%s is no table', relation));
  elsif (select not pg_has_role(relowner, 'usage') from pg_class where oid = relation) then
    perform tenantry.raise_error('TY030', format('only the owner of %s may share it', relation));
  end if;
  perform tenantry.grant_table(relation, mode);
  perform tenantry.register_isolation(relation, mode);
  return jsonb_build_object('table', relation, 'mode', mode);
end
$$;
