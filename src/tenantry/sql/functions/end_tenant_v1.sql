-- Makes the end of a tenant final before its rows are deleted: no late event and no listing revives it.
--
-- returns: {"tenant_id", "org_id", "user_id", "ended": true, "purged_at"}; "ended": false, and nothing done, while it lives
-- raises:  TY020 where no tenant has this id, ours or Clerk's
--
-- A personal account has ended when its user has. Who may call: tenantry_app.
create or replace function tenantry.end_tenant_v1(id text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  tenant tenantry.tenants := tenantry.find_tenant(id);
  ended  timestamptz := tenant.ended_at;
begin
  if ended is null then
    ended := (select u.ended_at from tenantry.users as u where u.id = tenant.clerk_user_id);
  end if;
  if ended is not null and tenant.deleted_at is null and options -> 'dry_run' is distinct from 'true' then
    update tenantry.tenants as t set deleted_at = ended where t.id = tenant.id;
  end if;
  return jsonb_build_object('tenant_id', tenant.id, 'org_id', tenant.clerk_org_id, 'user_id', tenant.clerk_user_id,
    'ended', ended is not null, 'purged_at', tenant.purged_at);
end
$$;
