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
  facts        constant tenantry.identity_facts := tenantry.read_identity(identity);
  claimed_org  constant text := nullif(facts.org_id, '');
  issued       constant timestamptz := to_timestamp(trunc(facts.issued_at::double precision));
  expires      constant timestamptz := to_timestamp(facts.expires_at::double precision);
  expired      constant boolean := expires <= now();
  -- The switch for the day the mirror is wrong: its denials are ignored, isolation stays.
  token_only   constant boolean := facts.membership_source is not distinct from 'token';
  token_role   constant text := tenantry.role_key(facts.role);
  bound        constant text := (select instance_id from tenantry.clerk_instance);
  tenant     tenantry.tenants;
  person     tenantry.users;
  membership tenantry.tenant_memberships;
  role       text := token_role;
begin
  if facts.instance_id <> bound then
    perform tenantry.raise_error('TY018', format('the token is of %s, this database mirrors %s', facts.instance_id, bound));
  elsif not token_only and exists (select from tenantry.ended_sessions where session_id = facts.session_id) then
    perform tenantry.raise_error('TY016', format('user %s', facts.user_id));
  elsif claimed_org is null and facts.personal_account is distinct from 'true' then
    perform tenantry.raise_error('TY017', format('user %s', facts.user_id));
  end if;

  -- One statement each: a join of them costs half as much again.
  select * into person from tenantry.users where id = facts.user_id;
  if claimed_org is null then
    select * into tenant from tenantry.tenants where clerk_user_id = facts.user_id;
  else
    select * into tenant from tenantry.tenants where clerk_org_id = claimed_org;
  end if;

  -- A day after a token expired, its session's end is forgotten (read_objects): it admits nobody any more.
  if expired then
    if token_only or tenant.id is null or person.id is null or expires < now() - interval '1 day' then
      perform tenantry.raise_error('TY019', format('user %s', facts.user_id));
    end if;
  end if;
  -- Ended by a deletion, for good; or by an absence, which a token issued since disproves.
  if person.ended_at is not null and not token_only then
    if person.deleted_at is not null or expired or issued < date_trunc('second', person.last_absent) then
      perform tenantry.raise_error('TY014', format('user %s', facts.user_id));
    end if;
  end if;
  -- A purged one whatever the switch says: a row written there would stay for ever.
  if tenant.purged_at is not null then
    perform tenantry.raise_error('TY013', format('organization %s', claimed_org));
  elsif tenant.ended_at is not null and not token_only then
    if tenant.deleted_at is not null or expired or issued < date_trunc('second', tenant.last_absent) then
      perform tenantry.raise_error('TY013', format('organization %s', claimed_org));
    end if;
  end if;
  if person.banned and not token_only then
    if expired or issued <= person.observed_at then
      perform tenantry.raise_error('TY015', format('user %s', facts.user_id));
    end if;
  end if;
  if tenant.id is null or person.id is null then
    if not pg_is_in_recovery() then
      perform tenantry.raise_error('TY011', format('organization %s, user %s', claimed_org, facts.user_id));
    end if;
    -- A replica cannot write the row, and knows which id it will have.
    tenant.id := coalesce(tenant.id, tenantry.derive_tenant_id(coalesce(bound, facts.instance_id), coalesce(claimed_org, facts.user_id)));
  end if;

  if claimed_org is not null and not token_only then
    select * into membership from tenantry.tenant_memberships
    where tenant_id = tenant.id and user_id = facts.user_id
    order by created_at desc nulls last, id desc limit 1;
    if membership.id is null then
      if expired then
        perform tenantry.raise_error('TY019', format('user %s, organization %s', facts.user_id, claimed_org));
      end if;
    elsif membership.ended_at is null then
      if expired or issued <= membership.observed_at then
        role := membership.role;
      end if;
    elsif expired or issued <= membership.deleted_at
       or (membership.deleted_at is null and issued < date_trunc('second', membership.last_absent)) then
      perform tenantry.raise_error('TY012', format('user %s, organization %s, since %s', facts.user_id, claimed_org, membership.ended_at));
    end if;
  end if;
  return tenantry.describe_context(facts, tenant, facts.user_id, role,
    case when membership.role = role then membership.permissions end,
    case when not expired and role is not distinct from token_role then issued end);
end
$$;
