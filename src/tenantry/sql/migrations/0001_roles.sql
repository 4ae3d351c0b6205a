-- The roles that isolation stands on. Roles belong to the whole cluster, so another database, or another
-- installer at this very moment, may have made them already.
do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('tenantry_owner',      'nologin'),            -- owns the mirror and the functions that write it
      ('tenantry_tenant',     'nologin'),            -- what a transaction with a tenant runs as
      ('tenantry_app',        'nologin'),            -- may call the functions; granted to the app's logins
      ('tenantry_bypass',     'nologin'),            -- what a transaction across tenants runs as
      ('tenantry_gate',       'nologin noinherit'),  -- SET ROLE tenantry_bypass passes, its rights do not
      ('tenantry_owner_gate', 'nologin noinherit')   -- the same for tenantry_owner: who migrates holds it
    ) as role(name, attributes)
  loop
    begin
      execute format('create role %I %s', wanted.name, wanted.attributes);
    exception when duplicate_object or unique_violation then null;
    end;
  end loop;

  -- Whoever migrates must be able to SET ROLE to each. PostgreSQL 16 and later give a role's creator ADMIN alone.
  for wanted in
    select * from (values
      ('tenantry_bypass',     'tenantry_gate',       not pg_has_role('tenantry_gate', 'tenantry_bypass', 'member')),
      ('tenantry_owner',      'tenantry_owner_gate', not pg_has_role('tenantry_owner_gate', 'tenantry_owner', 'member')),
      ('tenantry_owner_gate', current_user,          not (select rolsuper from pg_roles where rolname = current_user)),
      ('tenantry_tenant',     current_user,          not (select rolsuper from pg_roles where rolname = current_user)),
      ('tenantry_app',        current_user,          not (select rolsuper from pg_roles where rolname = current_user)),
      ('tenantry_gate',       current_user,          not (select rolsuper from pg_roles where rolname = current_user))
    ) as membership(role, member, missing) where missing
  loop
    begin
      execute format('grant %I to %I', wanted.role, wanted.member);
    exception when unique_violation then null;
    end;
  end loop;
exception
  when insufficient_privilege then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('%I may not create or grant the roles of tenantry', current_user),
      detail = sqlerrm,
      hint = 'Migrate as a role with CREATEROLE. Where another login of this cluster made the roles, it runs: '
             || 'grant tenantry_owner_gate, tenantry_tenant, tenantry_app, tenantry_gate to <this role> with admin option.';
end
$$;

create schema tenantry authorization tenantry_owner;
set local role tenantry_owner;
revoke all on schema tenantry from public;
grant usage on schema tenantry to tenantry_tenant, tenantry_app, tenantry_bypass;
alter default privileges for role tenantry_owner revoke execute on functions from public;

-- What is installed. `breaking` migrations are those that an older release cannot work with.
create table tenantry.migrations (
  number     integer primary key,
  name       text not null,
  breaking   boolean not null,
  applied_at timestamptz not null default now()
);
grant select on tenantry.migrations to tenantry_app, tenantry_tenant;
