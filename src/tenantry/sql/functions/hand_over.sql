-- Hands organizations to the routine of a table that follows; answers the refusal, whose code is null where it took them.
--
-- The routine, and the triggers of the app that it sets off, are the table owner's code and run with that owner's rights,
-- never with those of who merges. So it has to be a definer of that owner, before and, as the owner might alter it in
-- between, after the call: by its version, of which no two are alike. And it has to leave the search path alone, by which
-- the functions that called this one find what they name. Else all that it did is undone, as with any error. What it
-- calls could change how operators are found: those below are named in full. An older snapshot would not show the version.
-- A lock is waited for less long than deadlocks are looked for: it is the copy that gives way.
create or replace function tenantry.hand_over(follower tenantry.followers, organizations tenantry.tenants[])
returns tenantry.follower_gaps language plpgsql set search_path = pg_catalog, tenantry, pg_temp set lock_timeout = '50ms' as $$
declare
  refusal tenantry.follower_gaps;
  told    constant jsonb := (
    select jsonb_agg(jsonb_build_object(
      'id', o.id, 'org_id', o.clerk_org_id, 'context', tenantry.describe_app(o), 'name', o.name, 'slug', o.slug,
      'image_url', o.image_url, 'created_at', o.created_at, 'updated_at', to_timestamp(o.revision / 1000.0),
      'deleted_at', o.ended_at) order by o.id)
    from unnest(organizations) as o where o.revision > 0 or o.ended_at is not null);  -- a stub has no name yet
  names   constant text[] := array['tenantry.tenant_id', 'tenantry.org_id', 'tenantry.user_id', 'tenantry.context'];
  before  constant text[] := array(select coalesce(current_setting(n, true), '') from unnest(names) as n);
  path    constant text := current_setting('search_path');
  version text;
  called  text;
begin
  if told is null then
    return null;
  end if;
  select p.oid || ' ' || p.xmin, format('%I.%I', n.nspname, p.proname) into version, called
  from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace join pg_class as c on c.oid = follower.relation
  where p.oid = to_regprocedure(follower.routine || '(jsonb)') and p.prosecdef and p.proowner = c.relowner;
  if version is null or current_setting('transaction_isolation') <> 'read committed' then
    refusal.code := case when version is null then '42883' else '25001' end;
    return refusal;
  end if;
  perform set_config('tenantry.user_id', '', true);
  execute format('select %s($1)', called) using told;
  if not exists (
      select from pg_catalog.pg_proc as p join pg_catalog.pg_class as c on c.oid operator(pg_catalog.=) follower.relation
      where (p.oid operator(pg_catalog.||) ' ' operator(pg_catalog.||) p.xmin) operator(pg_catalog.=) version
        and p.prosecdef and p.proowner operator(pg_catalog.=) c.relowner
        and pg_catalog.current_setting('search_path') operator(pg_catalog.=) path) then
    raise exception using errcode = '42501';
  end if;
  perform set_config(n, b, true) from unnest(names, before) as s(n, b);
  return null;
exception when assert_failure or others then
  get stacked diagnostics refusal.code = returned_sqlstate, refusal.object = constraint_name;
  if refusal.object = '' then
    get stacked diagnostics refusal.object = column_name;
  end if;
  return refusal;
end
$$;
