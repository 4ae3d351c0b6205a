-- Decides whether a verified token's user may act in its organization, and as what: the table of decisions stands in
-- docs/concepts.md. A token is compared with the mirror by its `iat`, in whole seconds: newer than what the mirror
-- knows, it is believed; within the second of a deletion the deletion wins. Expired, it counts for nothing, and only a
-- live membership admits.
--
-- Returns the context that enter_tenant sets; raises TY011 to TY019. Reads only. Definer, so that the decision sees
-- the whole mirror; only tenantry_app may call it, never the role a tenant's queries run as.
create or replace function tenantry.resolve_identity(identity jsonb)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  claimed_user constant text := tenantry.clerk_text(identity, 'user_id');
  claimed_org  constant text := tenantry.clerk_text(identity, 'org_id');
  instance     constant text := tenantry.clerk_text(identity, 'instance_id');
  token_role   constant text := tenantry.role_key(tenantry.clerk_text(identity, 'role'));
  issued  timestamptz;  -- only once check_identity has passed
  expired boolean;
  -- The switch for the day the mirror is wrong: its denials are ignored, isolation stays.
  token_only   constant boolean := coalesce(identity ->> 'membership_source' = 'token', false);
  bound        constant text := tenantry.bound_instance();
  tenant     tenantry.tenants;
  person     tenantry.users;
  membership tenantry.tenant_memberships;
  role       text;
begin
  perform tenantry.check_identity(identity);
  issued := date_trunc('second', tenantry.clerk_time(identity -> 'issued_at'));
  expired := tenantry.clerk_time(identity -> 'expires_at') <= now();
  if instance <> bound then
    perform tenantry.raise_error('TY018', format('the token is of %s, this database mirrors %s', instance, bound));
  elsif not token_only and exists (select from tenantry.ended_sessions where session_id = identity ->> 'session_id') then
    perform tenantry.raise_error('TY016', format('user %s', claimed_user));
  elsif claimed_org is null and identity -> 'personal_account' is distinct from 'true' then
    perform tenantry.raise_error('TY017', format('user %s', claimed_user));
  end if;

  select * into person from tenantry.users where id = claimed_user;
  if claimed_org is null then
    select * into tenant from tenantry.tenants where clerk_user_id = claimed_user;
  else
    select * into tenant from tenantry.tenants where clerk_org_id = claimed_org;
  end if;

  -- A day after a token expired, its session's end is forgotten (read_objects): it admits nobody any more.
  if expired and (token_only or tenant.id is null or person.id is null 
      or tenantry.clerk_time(identity -> 'expires_at') < now() - interval '1 day') then
    perform tenantry.raise_error('TY019', format('user %s', claimed_user));
  elsif not token_only then
    if person.deleted_at is not null or (person.ended_at is not null and (expired or issued < date_trunc('second', person.last_absent))) then
      perform tenantry.raise_error('TY014', format('user %s', claimed_user));
    elsif tenant.deleted_at is not null or (tenant.ended_at is not null and (expired or issued < date_trunc('second', tenant.last_absent))) then
      perform tenantry.raise_error('TY013', format('organization %s', claimed_org));
    elsif person.banned and (expired or issued <= date_trunc('second', person.observed_at)) then
      perform tenantry.raise_error('TY015', format('user %s', claimed_user));
    end if;
  end if;
  if tenant.id is null or person.id is null then
    if not pg_is_in_recovery() then
      perform tenantry.raise_error('TY011', format('organization %s, user %s', claimed_org, claimed_user));
    end if;
    -- A replica cannot write the row, and knows which id it will have.
    tenant.id := coalesce(tenant.id, tenantry.derive_tenant_id(coalesce(bound, instance), coalesce(claimed_org, claimed_user)));
  end if;

  role := token_role;
  if claimed_org is not null and not token_only then
    select * into membership from tenantry.tenant_memberships
    where tenant_id = tenant.id and user_id = claimed_user
    order by created_at desc nulls last, id desc limit 1;
    if membership.id is null then
      if expired then
        perform tenantry.raise_error('TY019', format('user %s, organization %s', claimed_user, claimed_org));
      end if;
    elsif membership.ended_at is null then
      if expired or issued <= date_trunc('second', membership.observed_at) then
        role := membership.role;
      end if;
    elsif expired
       or issued <= date_trunc('second', membership.deleted_at)
       or (membership.deleted_at is null and issued < date_trunc('second', membership.last_absent)) then
      perform tenantry.raise_error('TY012', format('user %s, organization %s, since %s', claimed_user, claimed_org, membership.ended_at));
    end if;
  end if;
  return tenantry.describe_context(identity, tenant, claimed_user, role, membership);
end
$$;
