-- Triggers, policies and grants of the mirror, made anew at every install: default-deny first, then what each role may.
set local role tenantry_owner;

-- Every mirrored table merges by one trigger and notes its changes by another.
do $$
declare
  mirrored record;
begin
  for mirrored in
    select * from (values
      ('tenants', 'tenant'), ('users', 'user'), ('tenant_memberships', null), ('invitations', 'invitation'),
      ('domains', 'domain'), ('roles', 'role'), ('permissions', 'permission')
    ) as t(name, subject)
  loop
    execute format('create or replace trigger a_keep_newest_snapshot before update on tenantry.%I
      for each row execute function tenantry.keep_newest_snapshot()', mirrored.name);
    if mirrored.subject is not null then
      execute format('create or replace trigger note_inserted after insert on tenantry.%I
        referencing new table as new_rows for each statement execute function tenantry.note_inserted(%L)', mirrored.name, mirrored.subject);
      execute format('create or replace trigger note_updated after update on tenantry.%I
        referencing old table as old_rows new table as new_rows for each statement execute function tenantry.note_updated(%L)', mirrored.name, mirrored.subject);
    end if;
    if mirrored.subject in ('tenant', 'user') then
      execute format('create or replace trigger note_parents_updated after update on tenantry.%I
        referencing old table as old_rows new table as new_rows for each statement execute function tenantry.note_parents_updated(%L)', mirrored.name, mirrored.subject);
    end if;
  end loop;
end
$$;
create or replace trigger b_erase_deleted_user before insert or update on tenantry.users
  for each row execute function tenantry.erase_deleted_user();
create or replace trigger b_empty_purged_tenant before update on tenantry.tenants
  for each row when (old.purged_at is not null) execute function tenantry.empty_purged_tenant();
create or replace trigger note_inserted after insert on tenantry.tenant_memberships
  referencing new table as new_rows for each statement execute function tenantry.note_members();
create or replace trigger note_updated after update on tenantry.tenant_memberships
  referencing old table as old_rows new table as new_rows for each statement execute function tenantry.note_members();

-- The app's own tables of organizations follow.
create or replace trigger follow_inserted after insert on tenantry.tenants
  referencing new table as new_rows for each statement execute function tenantry.follow_tenants();
create or replace trigger follow_updated after update on tenantry.tenants
  referencing old table as old_rows new table as new_rows for each statement execute function tenantry.follow_tenants();

-- What roles permit is kept ready to be read; a statement on no row makes it so for what is there already.
do $$
declare
  source text;
begin
  foreach source in array array['roles', 'permissions', 'role_permissions'] loop
    execute format('create or replace trigger lock_role_grants before insert or update or delete or truncate on tenantry.%I
      for each statement execute function tenantry.lock_role_grants()', source);
    execute format('create or replace trigger refresh_role_grants after insert or update or delete or truncate on tenantry.%I
      for each statement execute function tenantry.refresh_role_grants()', source);
  end loop;
end
$$;
delete from tenantry.role_permissions where false;

-- Whose access may have ended is told to who listens, when the transaction commits.
create or replace trigger notify_endings after insert on tenantry.changes
  referencing new table as new_rows for each statement execute function tenantry.notify_endings();
create or replace trigger notify_ended_sessions after insert on tenantry.ended_sessions
  referencing new table as new_rows for each statement execute function tenantry.notify_ended_sessions();
-- By row: a statement on no row, as the one above, changes nothing.
create or replace trigger notify_everybody after insert or update or delete on tenantry.role_permissions
  for each row execute function tenantry.notify_everybody();
create or replace trigger notify_everybody after update on tenantry.clerk_instance
  for each row execute function tenantry.notify_everybody();

-- Inside a tenant one sees that tenant, its members and their users: neither the inbox nor anyone else. The owner's
-- definer functions are not confined (no FORCE); the bypass sees all.
do $$
declare
  confined record;
begin
  for confined in
    select * from (values
      ('tenants', 'id = (select tenantry.current_tenant_id())'),
      ('tenant_memberships', 'tenant_id = (select tenantry.current_tenant_id())'),
      ('invitations', 'tenant_id = (select tenantry.current_tenant_id())'),
      ('domains', 'tenant_id = (select tenantry.current_tenant_id())'),
      ('users', 'id = (select tenantry.current_user_id()) or exists (
         select from tenantry.tenant_memberships as m
         where m.user_id = users.id and m.tenant_id = (select tenantry.current_tenant_id()) and m.ended_at is null)')
    ) as t(name, predicate)
  loop
    execute format('alter table tenantry.%I enable row level security', confined.name);
    execute format('drop policy if exists own_tenant on tenantry.%I', confined.name);
    execute format('create policy own_tenant on tenantry.%I for select to tenantry_tenant using (%s)', confined.name, confined.predicate);
    execute format('drop policy if exists bypass on tenantry.%I', confined.name);
    execute format('create policy bypass on tenantry.%I for select to tenantry_bypass using (true)', confined.name);
  end loop;
end
$$;

revoke all on all tables in schema tenantry from public, tenantry_tenant, tenantry_app, tenantry_bypass;
revoke all on all sequences in schema tenantry from public, tenantry_tenant, tenantry_app, tenantry_bypass;
revoke all on all functions in schema tenantry from public, tenantry_tenant, tenantry_app, tenantry_bypass;

grant select on tenantry.tenants, tenantry.users, tenantry.tenant_memberships, tenantry.members, tenantry.invitations,
  tenantry.domains, tenantry.roles, tenantry.permissions, tenantry.role_permissions to tenantry_tenant;
grant select on tenantry.migrations, tenantry.table_isolation, tenantry.clerk_instance to tenantry_app, tenantry_tenant;
-- The operator's view, without a tenant: deliveries, changes, runs. Not for tenantry_tenant.
grant select on tenantry.webhook_events, tenantry.changes, tenantry.consumers, tenantry.reconcile_runs, tenantry.reconcile_pages to tenantry_app;
grant select on tenantry.followers, tenantry.follower_gaps to tenantry_app;  -- for check_v1
-- A dump runs as the bypass: it reads everything.
grant select on all tables in schema tenantry to tenantry_bypass;
grant select on all sequences in schema tenantry to tenantry_bypass;
grant references (id) on tenantry.tenants to tenantry_app;  -- for the foreign keys of isolated tables

-- Entry points for the app's logins, and what those of them that run with the caller's rights call in turn.
do $$
declare
  f record;
begin
  for f in
    select p.oid::regprocedure as signature, p.proname as name from pg_proc as p
    where p.pronamespace = 'tenantry'::regnamespace and p.prokind = 'f'
  loop
    if f.name ~ '_v[0-9]+$' or f.name in (
        'resolve_identity', 'resolve_tenant', 'enter_tenant', 'refuse_leftovers', 'clerk_text', 'clerk_object',
        'find_tenant', 'register_isolation', 'check_isolation_options', 'prepare_tenant_column', 'partitions_of',
        'isolation_predicate', 'enforce_isolation', 'remove_policies', 'grant_table', 'grant_schema', 'grant_sequences',
        'sequences_of', 'views_of', 'confine_views', 'check_tables', 'check_keys', 'check_readers', 'check_followers', 'check_roles',
        'isolation_holds', 'isolation_statement', 'columns_of', 'is_unique', 'confined_tables',
        'check_follower_options', 'follower_routine', 'follower_writes', 'register_follower', 'forget_follower',
        'hold_tenants') then
      execute format('grant execute on function %s to tenantry_app', f.signature);
    end if;
    if f.name in (
        'current_context', 'current_tenant_id', 'current_org_id', 'current_user_id', 'has_role', 'has_permission', 'can',
        'permission_matches', 'role_key', 'raise_error', 'refuse_second_context', 'set_tenant_v1',
        'set_tenant_by_id_v1', 'enter_change_v1', 'bypass_tenant_v1', 'end_bypass_v1') then
      execute format('grant execute on function %s to tenantry_app, tenantry_tenant, tenantry_bypass', f.signature);
    end if;
  end loop;
end
$$;
