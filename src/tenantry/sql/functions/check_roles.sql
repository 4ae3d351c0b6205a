-- check_v1 about roles: TC3x.
create or replace function tenantry.check_roles()
returns table (name text, object text, code text, explanation text, fix text) language plpgsql stable as $$
begin
  return query
  with recursive granted(member) as (
    select m.member from pg_auth_members as m where m.roleid = 'tenantry_app'::regrole
    union select m.member from pg_auth_members as m join granted on m.roleid = granted.member
  )
  select 'login-above-isolation', quote_ident(r.rolname), 'TC30', 'The app may log in as this role, and no policy holds it where a tenant is not set.',
    format('alter role %I nosuperuser nobypassrls; -- or let the app log in as another role', r.rolname)
  from granted join pg_roles as r on r.oid = granted.member
  where r.rolcanlogin and (r.rolsuper or r.rolbypassrls);

  -- Who holds it through such a role is not named: mending the one mends the others.
  return query
  select distinct 'bypass-inherited', quote_ident(r.rolname), 'TC31', format('This role has the rights of %s without asking for them.', above.name),
    case when r.rolname not in ('tenantry_gate', 'tenantry_owner_gate') then format('revoke %s from %I;', above.name, r.rolname)
      when current_setting('server_version_num')::integer >= 160000 then format('grant %s to %I with inherit false;', above.name, r.rolname)
      else format('alter role %I noinherit;', r.rolname) end
  from (values ('tenantry_bypass'), ('tenantry_owner')) as above(name)
  join pg_auth_members as m on m.roleid = above.name::regrole
  join pg_roles as r on r.oid = m.member
  where not r.rolsuper and pg_has_role(r.oid, above.name, 'usage');

  return query
  select 'function-open', p.oid::regprocedure::text, 'TC32', 'Everybody may call this function of tenantry, inside a tenant too.',
    format('revoke execute on function %s from public;', p.oid::regprocedure)
  from pg_proc as p
  where p.pronamespace = 'tenantry'::regnamespace
    and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as g where g.grantee = 0 and g.privilege_type = 'EXECUTE');

  return query
  select 'schema-open', quote_ident(n.nspname), 'TC33', 'Tenants may create objects here, which the unqualified names of others then find.',
    format('revoke create on schema %I from public, tenantry_tenant;', n.nspname)
  from pg_namespace as n
  where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and has_schema_privilege('tenantry_tenant', n.oid, 'create');
end
$$;
