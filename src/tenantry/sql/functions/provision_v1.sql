-- Creates an unknown tenant and user from a verified token's claims, which prove that both exist: a stub each, named
-- when a snapshot comes. Never a membership: a token has no membership id.
--
-- identity: as set_tenant_v1
-- returns:  {"tenant_id": uuid, "created": ["<Clerk id>", ...]}
--
-- Who may call: tenantry_app, in a transaction of its own, before the app's begins: within it, a second first request
-- and the webhook of that organization would wait for the app.
create or replace function tenantry.provision_v1(identity jsonb)
returns jsonb language plpgsql security definer
set search_path = pg_catalog, tenantry, pg_temp
set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  facts     constant tenantry.identity_facts := tenantry.read_identity(identity);
  user_id   constant text := facts.user_id;
  org_id    constant text := nullif(facts.org_id, '');
  snapshots tenantry.snapshots;
  tenant    tenantry.tenants;
  person    tenantry.users;
  changed   text[];
begin
  if to_timestamp(facts.expires_at::double precision) <= now() then
    perform tenantry.raise_error('TY019', format('user %s', user_id));
  elsif org_id is null and facts.personal_account is distinct from 'true' then
    perform tenantry.raise_error('TY017', format('user %s', user_id));
  end if;
  perform tenantry.bind_instance(nullif(facts.instance_id, ''));
  perform tenantry.state_cause('token');
  person.id := user_id;
  snapshots.users := array[person];
  if org_id is not null then
    tenant.id := tenantry.tenant_id_of(org_id);
    tenant.clerk_org_id := org_id;
    snapshots.tenants := array[tenant];
  end if;
  changed := tenantry.merge_snapshots(snapshots);
  if org_id is null then
    insert into tenantry.tenants (id, clerk_user_id) values (tenantry.derive_tenant_id(tenantry.bound_instance(), user_id), user_id)
    on conflict do nothing;
  end if;
  return jsonb_build_object('created', to_jsonb(changed), 'tenant_id',
    (select t.id from tenantry.tenants t where t.clerk_org_id = org_id or (org_id is null and t.clerk_user_id = user_id)));
end
$$;
