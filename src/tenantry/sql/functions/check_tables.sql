-- check_v1 about tables: TC0x.
create or replace function tenantry.check_tables()
returns table (name text, object text, code text, explanation text, fix text) language plpgsql stable as $$
begin
  -- Migration tools' own tables count as bookkeeping while no tenant can reach them, and so do those of a move.
  return query
  select 'table-unclassified', c.oid::regclass::text, 'TC01', 'This table is neither isolated nor shared.',
    format('select tenantry.isolate_table_v1(%L); -- or: select tenantry.share_table_v1(%1$L, ''read'');', c.oid::regclass)
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'f')
    and n.nspname not in ('pg_catalog', 'information_schema', 'tenantry') and n.nspname !~ '^pg_(toast|temp)'
    and not exists (select from tenantry.table_isolation as i where i.relation = c.oid)
    and not exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    and not exists (select from pg_inherits as h join tenantry.table_isolation as i on i.relation = h.inhparent where h.inhrelid = c.oid)
    and not ((n.nspname = 'tenantry_adopt' or c.relname in ('alembic_version', '_prisma_migrations', '__drizzle_migrations', 'schema_migrations', 'django_migrations'))
             and not has_table_privilege('tenantry_tenant', c.oid, 'select, insert, update, delete'));

  return query
  select 'isolation-off', i.relation::text, 'TC02', 'Row level security is not on, or not forced: the owner sees every tenant.',
    format('alter table %s enable row level security, force row level security;', i.relation)
  from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
  where i.mode = 'isolated' and not (c.relrowsecurity and c.relforcerowsecurity);

  return query
  select 'policy-changed', i.relation::text, 'TC03',
    'A policy of the isolation is missing, was changed, or does not hold for the table''s owner.',
    tenantry.isolation_statement(i)
  from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
  where i.mode = 'isolated' and not tenantry.isolation_holds(i);

  return query
  select 'stray-policy', p.polrelid::regclass::text, 'TC04',
    format('Policy %I is not Tenantry''s. It cannot widen the isolation, but it may open the table to roles outside it.', p.polname),
    format('drop policy %I on %s;', p.polname, p.polrelid::regclass)
  from pg_policy as p join tenantry.table_isolation as i on i.relation = p.polrelid
  where i.mode = 'isolated' and p.polpermissive and p.polname not in ('tenantry_access', 'tenantry_bypass');

  return query
  select 'partition-open', h.inhrelid::regclass::text, 'TC05', format('A partition or child of %s that is not isolated itself.', i.relation),
    tenantry.isolation_statement(i)
  from tenantry.table_isolation as i join pg_inherits as h on h.inhparent = i.relation
  where i.mode = 'isolated' and not exists (select from tenantry.table_isolation as child where child.relation = h.inhrelid and child.mode = 'isolated');

  return query
  select 'tenant-column-loose', i.relation::text, 'TC06', format('%I may be null or has no default of the current tenant.', i.tenant_column),
    tenantry.isolation_statement(i)
  from tenantry.table_isolation as i
  join pg_attribute as a on a.attrelid = i.relation and a.attname = i.tenant_column
  left join pg_attrdef as f on f.adrelid = a.attrelid and f.adnum = a.attnum
  where i.mode = 'isolated' and not exists (select from pg_inherits where inhrelid = i.relation)
    and (not a.attnotnull or coalesce(pg_get_expr(f.adbin, f.adrelid) !~ 'current_(tenant|org)_id\(\)', true));

  return query
  select 'no-tenant-index', i.relation::text, 'TC07', format('No index begins with %I: every query reads every tenant''s rows.', i.tenant_column),
    format('create index %s on %s (%I);', case c.relkind when 'p' then '' else 'concurrently' end, i.relation, i.tenant_column)
  from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
  where i.mode = 'isolated' and not exists (
    select from pg_index as x join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = x.indkey[0]
    where x.indrelid = i.relation and a.attname = i.tenant_column and x.indpred is null and x.indisvalid);

  return query
  select 'truncate-granted', i.relation::text, 'TC08', format('%s may TRUNCATE, which asks no policy.', who.name),
    format('revoke truncate on %s from %s;', i.relation, who.name)
  from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
  cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as g
  cross join lateral (select case when g.grantee = 0 then 'public' else g.grantee::regrole::text end) as who(name)
  where i.mode in ('isolated', 'read') and g.privilege_type = 'TRUNCATE';

  return query
  select 'shared-names-a-tenant', i.relation::text, 'TC09', 'This table is shared by all tenants, yet it refers to a tenant or to a tenant''s rows.',
    format('select tenantry.isolate_table_v1(%L);', i.relation)
  from tenantry.table_isolation as i
  where i.mode in ('read', 'write') and exists (
    select from pg_constraint as k
    where k.conrelid = i.relation and k.contype = 'f' and (k.confrelid = 'tenantry.tenants'::regclass
       or k.confrelid in (select there.relation from tenantry.table_isolation as there where there.mode = 'isolated')));
end
$$;
