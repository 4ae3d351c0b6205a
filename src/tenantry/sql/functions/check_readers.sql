-- check_v1 about what else reads isolated tables: TC2x.
create or replace function tenantry.check_readers()
returns table (name text, object text, code text, explanation text, fix text) language plpgsql stable as $$
begin
  return query
  select distinct 'view-with-owners-rights', seen::text, 'TC20', 'This view reads a tenant''s rows with its owner''s rights, not its caller''s.',
    format('alter view %s set (security_invoker = true);', seen)
  from tenantry.confined_tables() as confined(relation)
  cross join lateral unnest(tenantry.views_of(confined.relation)) as seen
  join pg_class as v on v.oid = seen
  where not coalesce(v.reloptions && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false);

  return query
  select distinct 'materialized-view-open', seen::text, 'TC21', 'This materialized view holds every tenant''s rows, and tenants may read it.',
    format('revoke all on %s from public, tenantry_tenant;', seen)
  from tenantry.confined_tables() as confined(relation) cross join lateral unnest(tenantry.views_of(confined.relation, 'm')) as seen
  where has_table_privilege('tenantry_tenant', seen::oid, 'select');

  return query
  select 'function-above-isolation', p.oid::regprocedure::text, 'TC22',
    format('This function runs as %I, whom no policy holds, and tenants may call it.', pg_get_userbyid(p.proowner)),
    format('revoke execute on function %s from public, tenantry_tenant; -- or let the tables'' owner own it', p.oid::regprocedure)
  from pg_proc as p join pg_roles as r on r.oid = p.proowner
  join pg_namespace as n on n.oid = p.pronamespace
  where p.prosecdef and (r.rolsuper or r.rolbypassrls or pg_has_role(r.oid, 'tenantry_bypass', 'usage')) and n.nspname not in ('pg_catalog', 'information_schema', 'tenantry')
    and has_function_privilege('tenantry_tenant', p.oid, 'execute')
    and has_schema_privilege('tenantry_tenant', n.oid, 'usage');

  return query
  select distinct 'sequence-readable', s::text, 'TC23', 'Tenants may read this sequence, which tells how much all of them write.',
    format('revoke select on sequence %s from public, tenantry_tenant;', s)
  from tenantry.table_isolation as i cross join lateral unnest(tenantry.sequences_of(i.relation)) as s
  where i.mode = 'isolated' and has_sequence_privilege('tenantry_tenant', s::oid, 'select');

  return query
  select distinct 'sequence-not-granted', s::text, 'TC24', 'Tenants may not draw from this sequence: their inserts fail.',
    format('grant usage on sequence %s to tenantry_tenant;', s)
  from tenantry.table_isolation as i cross join lateral unnest(tenantry.sequences_of(i.relation)) as s
  where i.mode in ('isolated', 'write') and not has_sequence_privilege('tenantry_tenant', s::oid, 'usage')
    -- an identity column draws without a grant
    and not exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = s::oid and d.deptype = 'i');

  return query
  select 'published', i.relation::text, 'TC25', format('Publication %I sends every tenant''s rows to its subscribers.', b.pubname),
    'Make sure that each subscriber isolates them again.'
  from tenantry.table_isolation as i
  join pg_class as c on c.oid = i.relation
  join pg_publication as b on b.puballtables
    or exists (select from pg_publication_rel as r where r.prpubid = b.oid and r.prrelid = i.relation)
    or exists (select from pg_publication_namespace as s where s.pnpubid = b.oid and s.pnnspid = c.relnamespace)
  where i.mode = 'isolated';
end
$$;
