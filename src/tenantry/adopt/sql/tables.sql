-- The app's tables, partitioned ones as one, without foreign ones, whose rows are elsewhere; `refusal` says why no tenant
-- can be given to the rows of one.
select c.oid, format('%I.%I', n.nspname, c.relname), quote_ident(pg_get_userbyid(c.relowner)),
  case when s.rows >= 0 then s.rows else s.bytes / 100 end, s.bytes, c.relkind::text,
  case when c.relrowsecurity and t.relation is null and c.relforcerowsecurity then 'row level security is forced on it by somebody else'
       when c.reloftype <> 0 then 'its columns are those of a type'
       when c.relkind = 'r' and exists (select from pg_inherits as h where h.inhparent = c.oid or h.inhrelid = c.oid)
         then 'it inherits, or is inherited from'
       when exists (select from pg_inherits as h join pg_class as p on p.oid = h.inhrelid where h.inhparent = c.oid and p.relkind <> 'r')
         then 'its partitions are partitioned again, or foreign'
       when exists (select from pg_rewrite as r where r.ev_class = c.oid) then 'it has rewrite rules' else '' end,
  coalesce(t.mode, ''),
  (c.relreplident = 'n' or (c.relreplident = 'd' and not exists (select from pg_index as x where x.indrelid = c.oid and x.indisprimary)))
    and exists (select from pg_publication_tables as p where p.schemaname = n.nspname and p.tablename = c.relname and p.pubname in (
      select b.pubname from pg_publication as b where b.pubupdate)),
  (select array_agg(array[to_jsonb(case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end),
                              to_jsonb(lower(g.privilege_type)), to_jsonb(g.is_grantable)] order by 1)
            from aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as g)
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
left join tenantry.table_isolation as t on t.relation = c.oid
cross join lateral (
  select coalesce(sum(case when l.reltuples < 0 then null else l.reltuples end), -1)::bigint as rows, coalesce(sum(pg_table_size(l.oid)), 0)::bigint as bytes
  from pg_class as l where l.oid = c.oid and c.relkind <> 'p' or l.oid in (select h.inhrelid from pg_inherits as h where h.inhparent = c.oid)) as s
where c.relkind in ('r', 'p') and not c.relispartition and {app}
  and not c.relname in ('alembic_version', '_prisma_migrations', '__drizzle_migrations', 'schema_migrations', 'django_migrations')
order by 2
