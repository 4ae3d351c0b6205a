-- Whether the policies of an isolated table are those that enforce_isolation made, and hold for its owner of today.
create or replace function tenantry.isolation_holds(i tenantry.table_isolation)
returns boolean language plpgsql stable as $$
declare
  owner    constant oid := (select relowner from pg_class where oid = i.relation);
  confined constant oid[] := array['tenantry_tenant'::regrole::oid, owner];
  context  constant text := case i.tenant_key when 'id' then 'current_tenant_id' else 'current_org_id' end;
  asked    constant text := format('%s()', context);
  tenant_column constant text := quote_ident(i.tenant_column);
begin
  return exists (
    select from pg_policy as p
    cross join lateral replace(pg_get_expr(p.polqual, p.polrelid), 'tenantry.current', 'current') as predicate
    where p.polrelid = i.relation and p.polname = 'tenantry_isolation' and not p.polpermissive and p.polcmd = '*' and p.polroles @> confined
      and pg_get_expr(p.polqual, p.polrelid) = pg_get_expr(p.polwithcheck, p.polrelid)
      and predicate in (  -- with the subselect, or as Citus gets it; a varchar column is cast
        format('(%s = ( SELECT %s AS %s))', tenant_column, asked, context), format('((%s)::text = ( SELECT %s AS %s))', tenant_column, asked, context),
        format('(%s = %s)', tenant_column, asked), format('((%s)::text = %s)', tenant_column, asked))
      and exists (  -- the real one, not a namesake that the search path finds first
        select from pg_depend as d
        where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
          and d.refobjid = ('tenantry.' || asked)::regprocedure))
  and exists (
    select from pg_policy as p
    where p.polrelid = i.relation and p.polname = 'tenantry_access' and p.polpermissive and p.polcmd = '*' and p.polroles @> confined)
  and exists (
    select from pg_policy as p
    where p.polrelid = i.relation and p.polname = 'tenantry_bypass' and p.polpermissive and p.polroles = array['tenantry_bypass'::regrole::oid])
  and not exists (
    select from jsonb_each_text(i.permissions) as wanted(command, permission)
    where not exists (
      select from pg_policy as p
      where p.polrelid = i.relation and p.polname = 'tenantry_may_' || wanted.command and not p.polpermissive and p.polroles @> confined
        and p.polcmd::text = case wanted.command when 'select' then 'r' when 'insert' then 'a' when 'update' then 'w' else 'd' end
        and position(quote_literal(wanted.permission) in pg_get_expr(coalesce(p.polqual, p.polwithcheck), p.polrelid)) > 0));
end
$$;
