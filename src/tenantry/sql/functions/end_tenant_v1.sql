-- Makes the end of a tenant final before its rows are deleted: no late event and no listing revives it.
--
-- returns: {"tenant_id", "org_id", "user_id", "ended": true, "purged_at"}; "ended": false, and nothing done, while it lives
-- raises:  TY020 where no tenant has this id, ours or Clerk's
--
-- A personal account has ended when its user's end is final: by a deletion, or by erase_user_v1. One whom a listing
-- lacked may come back. Who may call: tenantry_app. Locks: as merging does a tenant that may come back.
create or replace function tenantry.end_tenant_v1(id text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  dry    constant boolean := coalesce(options -> 'dry_run' = 'true', false);
  tenant tenantry.tenants := tenantry.find_tenant(id);
  ended  timestamptz;
begin
  if not dry then
    perform tenantry.lock_tenant(tenant.id);
    tenant := tenantry.find_tenant(id);  -- as it is now: an event may have revived it meanwhile
  end if;
  ended := coalesce(tenant.ended_at, (select u.deleted_at from tenantry.users as u where u.id = tenant.clerk_user_id));
  if ended is not null and tenant.deleted_at is null and not dry then
    update tenantry.tenants as t set deleted_at = ended where t.id = tenant.id;
  end if;
  return jsonb_build_object('tenant_id', tenant.id, 'org_id', tenant.clerk_org_id, 'user_id', tenant.clerk_user_id,
    'ended', ended is not null, 'purged_at', tenant.purged_at);
end
$$;
