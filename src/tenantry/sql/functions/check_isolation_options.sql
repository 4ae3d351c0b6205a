-- Refuses what isolate_table_v1 cannot do, naming why.
create or replace function tenantry.check_isolation_options(relation regclass, options jsonb, tenant_key text, permissions jsonb)
returns void language plpgsql as $$
declare
  kind  "char";
  owner oid;
  wrong text;
begin
  perform tenantry.refuse_second_context();
  if jsonb_typeof(options) <> 'object' or jsonb_typeof(permissions) <> 'object' then
    perform tenantry.raise_error('TY010', 'options, and permissions in them, are JSON objects');
  end if;
  select c.relkind, c.relowner into kind, owner from pg_class as c where c.oid = relation;
  if kind is null or kind not in ('r', 'p') then
    perform tenantry.raise_error('TY030', format('%s is no table', coalesce(relation::text, 'null')));
  elsif not pg_has_role(owner, 'usage') then
    perform tenantry.raise_error('TY030', format('%s belongs to %I: only its owner may isolate it, and you are %I', relation, pg_get_userbyid(owner), current_user));
  elsif exists (select from pg_inherits where inhrelid = relation) and not exists (
      select from tenantry.table_isolation as i join pg_inherits as h on h.inhparent = i.relation where h.inhrelid = check_isolation_options.relation) then
    perform tenantry.raise_error('TY030', format('%s is a partition or child: isolate its parent', relation));
  elsif tenant_key not in ('id', 'clerk_org_id') then
    perform tenantry.raise_error('TY010', format('key %L is neither id nor clerk_org_id', tenant_key));
  end if;
  select option into wrong from jsonb_object_keys(options) as option where option not in ('column', 'key', 'backfill', 'permissions', 'check') limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY010', format('unknown option %L: column, key, backfill, permissions and check are known', wrong));
  end if;
  select option into wrong from jsonb_each(options) as o(option, value)
  where option <> 'permissions' and (jsonb_typeof(value) not in ('string', 'null') or value = '""') limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY010', format('option %L is a text', wrong));
  end if;
  if coalesce(options ->> 'check', 'later') <> 'later' then
    perform tenantry.raise_error('TY010', 'option "check" is "later" or left out');
  end if;
  select command into wrong from jsonb_each(permissions) as p(command, permission)
  where command not in ('select', 'insert', 'update', 'delete') or jsonb_typeof(permission) <> 'string' limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY010', format('permissions.%s: the commands are select, insert, update and delete, each with a permission', wrong));
  end if;
end
$$;
