-- check_v1 about the app's own tables of organizations that follow: TC26, TC27.
create or replace function tenantry.check_followers()
returns table (name text, object text, code text, explanation text, fix text) language plpgsql stable as $$
begin
  return query
  select 'follower-broken', f.relation::text, 'TC26',
    case when c.oid is null then 'This table was to follow the mirror''s organizations, and was dropped.'
      else format('The function %s, by which this table follows the mirror''s organizations, is missing, was changed, or may be called by others.', f.routine) end,
    format(case when c.oid is null then 'select tenantry.unfollow_tenants_v1(%L);' else 'select tenantry.follow_tenants_v1(%L);' end, f.relation)
  from tenantry.followers as f left join pg_class as c on c.oid = f.relation
  where c.oid is null or not exists (
    select from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
    where format('%I.%I', n.nspname, p.proname) = f.routine and p.proargtypes = array['jsonb'::regtype::oid]::oidvector
      and p.prosecdef and p.proowner = c.relowner and has_function_privilege('tenantry_owner', p.oid, 'execute')
      and has_schema_privilege('tenantry_owner', n.oid, 'usage')
      and not exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as g
                      where g.grantee not in (p.proowner, 'tenantry_owner'::regrole::oid)));

  return query
  select 'follower-behind', f.relation::text, 'TC27',
    format('%s of the mirror''s organizations are not in this table as they are%s.', count(*),
      coalesce('; it refused with ' || string_agg(distinct concat_ws(' ', g.code, nullif(g.object, '')), ', '), '')),
    'select tenantry.catch_up_v1();'
  from tenantry.followers as f join pg_class as c on c.oid = f.relation join tenantry.follower_gaps as g on g.relation = f.relation
  group by f.relation;
end
$$;
