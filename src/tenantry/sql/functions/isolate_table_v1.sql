-- Puts a table behind tenant isolation. Idempotent; run it again after ALTERs to mend what check_v1 found.
--
-- options: {"column": "tenant_id", "key": "id",        -- the column, and which column of tenants it holds: id or clerk_org_id
--           "backfill": "<tenant id or Clerk id>",     -- whom the rows without a tenant belong to
--           "permissions": {"delete": "org:documents:delete"},  -- select, insert, update, delete: what the member must hold
--           "check": "later"}                          -- no findings: check_v1 reads every table, under this one's lock
-- returns: {"table", "column", "key", "partitions": [...], "findings": [check_v1's rows about the table]}
-- raises:  TY030 where the table cannot be isolated, naming why; TY010 for options it does not know
--
-- Who may call: the table's owner, without a tenant. Locks the table (ACCESS EXCLUSIVE), for as long as a scan takes; no
-- scan where the column is there and NOT NULL, with an index that it begins, and the foreign key to tenants.
create or replace function tenantry.isolate_table_v1(relation regclass, options jsonb default '{}')
returns jsonb language plpgsql as $$
declare
  tenant_column constant name := coalesce(options ->> 'column', 'tenant_id');
  tenant_key    constant text := coalesce(options ->> 'key', case when tenant_column = 'tenant_id' then 'id' end, 'clerk_org_id');
  permissions   constant jsonb := coalesce(nullif(options -> 'permissions', 'null'), '{}');
  parts         constant regclass[] := tenantry.partitions_of(relation);
  is_child      constant boolean := exists (select from pg_inherits where inhrelid = relation);
  part          regclass;
begin
  perform tenantry.check_isolation_options(relation, options, tenant_key, permissions);
  foreach part in array relation || parts loop
    execute format('alter table %s no force row level security', part);  -- the owner must see all rows for what follows
    if part = relation or not (select relispartition from pg_class where oid = part) then  -- a partition follows its parent
      perform tenantry.prepare_tenant_column(part, tenant_column, tenant_key, options ->> 'backfill');
    end if;
    perform tenantry.enforce_isolation(part, tenant_column, tenant_key, permissions);
    perform tenantry.confine_views(part);
    perform tenantry.register_isolation(part, 'isolated', tenant_column, tenant_key, permissions);
  end loop;
  perform tenantry.grant_table(relation, case when is_child then 'none' else 'write' end);
  foreach part in array parts loop
    perform tenantry.grant_table(part, 'none');  -- reached through the parent alone
  end loop;
  return jsonb_build_object('table', relation, 'column', tenant_column, 'key', tenant_key, 'partitions', to_jsonb(parts::text[]),
    'findings', case when options ->> 'check' = 'later' then null else
      coalesce((select jsonb_agg(to_jsonb(f)) from tenantry.check_v1() as f
                where f.object = relation::text or f.object = any (parts::text[])), '[]') end);
end
$$;
