-- Keeps the app's own table of organizations in step with the mirror: from now on the transaction that changes a tenant
-- writes its row there too. A new organization gets a row, another name is carried over, and one that has ended is marked,
-- where a column for that is named; no row is deleted. Idempotent; run it again after ALTERs of the table.
--
-- options: {"org_id": "clerk_org_id",                 -- the column that holds Clerk's id: that one unless given
--           "columns": {"name": "name", "slug": "slug", "image_url": "logo", "created_at": "created_at",
--                       "updated_at": "updated_at", "deleted_at": "deleted_at"},  -- what is copied -> where; none else
--           "copy": "later"}                          -- what is there already is left to catch_up_v1
--          {} for a table that follows already: as it was told before
-- returns: {"table", "routine", "copied": n, "behind": how many its table refused: check_v1 says why}
-- raises:  TY030 where the table cannot follow, naming why; TY010 for options it does not know
--
-- What is written is written by a function of the table's owner, made here, beside the table: its rights, its triggers.
-- It sets the organization as the tenant, so that isolation lets it write that row and no other. `created_at` is
-- written into new rows alone; `updated_at` along with something else. A column that may not be null gets Clerk's id
-- where Clerk has nothing. What fails delays nothing and fails nothing: it is tried again at the next change.
--
-- Who may call: the table's owner, without a tenant. Locks: tenants (SHARE): webhooks wait until the transaction ends.
create or replace function tenantry.follow_tenants_v1(relation regclass, options jsonb default '{}')
returns jsonb language plpgsql as $$
declare
  known   tenantry.followers;
  writer  text;
  owner   name;
  grantee text;
  schema  regnamespace;
  copied  jsonb;
begin
  select f.* into known from tenantry.followers as f where f.relation = follow_tenants_v1.relation;
  if known.relation is null or options - 'copy' <> '{}' then
    known.org_column := coalesce(options ->> 'org_id', 'clerk_org_id');
    known.columns := coalesce(nullif(options -> 'columns', 'null'), '{}');
  end if;
  perform tenantry.check_follower_options(relation, options, known.org_column, known.columns);
  select pg_get_userbyid(c.relowner), c.relnamespace, format('%I.%I', n.nspname, left(c.relname, 40) || '_follow_tenants') into owner, schema, writer
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = relation;
  if exists (select from tenantry.followers as f where f.routine = writer and f.relation <> follow_tenants_v1.relation) then
    writer := writer || '_' || relation::oid;
  end if;
  if known.routine <> writer then  -- the table was renamed
    execute format('drop function if exists %s(jsonb)', known.routine);
  end if;
  execute format('drop function if exists %s(jsonb)', writer);
  execute tenantry.follower_routine(relation, writer, known.org_column, known.columns);
  execute format('alter function %s(jsonb) owner to %I', writer, owner);
  for grantee in
    select case when g.grantee = 0 then 'public' else g.grantee::regrole::text end
    from pg_proc as p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as g
    where p.oid = to_regprocedure(writer || '(jsonb)') and g.grantee <> p.proowner
  loop
    execute format('revoke all on function %s(jsonb) from %s', writer, grantee);
  end loop;
  execute format('grant execute on function %s(jsonb) to tenantry_owner', writer);
  if not has_schema_privilege('tenantry_owner', schema, 'usage') then
    if not has_schema_privilege(schema, 'usage with grant option') then
      perform tenantry.raise_error('TY030', format(
        'tenantry may not use the schema %s: its owner runs "grant usage on schema %1$s to tenantry_owner"', schema));
    end if;
    execute format('grant usage on schema %s to tenantry_owner', schema);
  end if;
  perform tenantry.register_follower(relation, writer, known.org_column, known.columns);
  copied := case when options ->> 'copy' = 'later' then '{"copied": 0}' else tenantry.catch_up_v1('{"limit": 999999}') end;
  return jsonb_build_object('table', relation, 'routine', writer, 'copied', copied -> 'copied',
    'behind', (select count(*) from tenantry.follower_gaps as g where g.relation = follow_tenants_v1.relation));
end
$$;
