-- Gives a table its tenant column: there, filled, NOT NULL, by default the current tenant, led by an index and, where
-- it holds our ids, tied to tenants. Never ADD COLUMN .. DEFAULT current_tenant_id(): that stamps every row at once.
create or replace function tenantry.prepare_tenant_column(relation regclass, tenant_column name, tenant_key text, backfill text)
returns void language plpgsql as $$
declare
  wanted  constant regtype := case tenant_key when 'id' then 'uuid' else 'text' end;
  actual  regtype;
  filled  boolean;
  tenant  tenantry.tenants;
  orphans boolean := false;
begin
  select a.atttypid::regtype, a.attnotnull into actual, filled from pg_attribute as a
  where a.attrelid = relation and a.attname = tenant_column and not a.attisdropped;
  if actual is null then
    execute format('alter table %s add column %I %s', relation, tenant_column, wanted);
  elsif actual <> wanted and not (wanted = 'text'::regtype and actual = 'varchar'::regtype) then
    perform tenantry.raise_error('TY030', format('%s.%I is %s; the key %s needs %s', relation, tenant_column, actual, tenant_key, wanted));
  end if;

  if filled is distinct from true then  -- else a scan, under the lock, would tell nothing new
    execute format('select exists (select from %s where %I is null)', relation, tenant_column) into orphans;
  end if;
  if orphans and backfill is not null then
    tenant := tenantry.find_tenant(backfill);
    if tenant_key = 'clerk_org_id' and tenant.clerk_org_id is null then
      perform tenantry.raise_error('TY030', format('%s is a personal account: it has no organization id to write into %s', backfill, relation));
    end if;
    execute format('update %s set %I = %L where %2$I is null', relation, tenant_column,
      case tenant_key when 'id' then tenant.id::text else tenant.clerk_org_id end);
  elsif orphans then
    perform tenantry.raise_error('TY030', format(
      '%s holds rows of no tenant: name whose they are with the option "backfill", or move the app over with `tenantry adopt`', relation));
  end if;

  execute format('alter table %s alter column %I set default tenantry.current_%s(), alter column %2$I set not null',
    relation, tenant_column, case tenant_key when 'id' then 'tenant_id' else 'org_id' end);
  if not exists (
      select from pg_index as i join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
      where i.indrelid = relation and a.attname = tenant_column and i.indpred is null and i.indisvalid) then
    execute format('create index on %s (%I)', relation, tenant_column);
  end if;
  -- Clerk's own ids may stand here before the mirror has seen them: only ours get a foreign key.
  if tenant_key = 'id' and not exists (
      select from pg_constraint where conrelid = relation and contype = 'f' and confrelid = 'tenantry.tenants'::regclass) then
    execute format('alter table %s add foreign key (%I) references tenantry.tenants (id)', relation, tenant_column);
  end if;
end
$$;
