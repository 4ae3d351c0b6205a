-- Moves a consumer on to a change, with the transaction in which that change is dealt with. It holds the consumer's row
-- until then: nobody else can move it, and where this transaction ends without a commit, it has not moved.
--
-- pos:     the change's
-- options: {"after": <where the consumer was read to be>}
-- returns: {"taken": false, "context": <the tenant's, for enter_change_v1; null where the change concerns none, or a purged one>}
--          {"taken": true}: somebody else is at this consumer, or it is elsewhere or parked. Nothing was moved: roll back
-- Raises TY010 where no placed change has this position, or it is not after `after`.
--
-- Who may call: tenantry_app. Locks: the consumer's row.
create or replace function tenantry.advance_consumer_v1(consumer text, pos bigint, options jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  known  tenantry.consumers;
  change tenantry.changes;
  tenant tenantry.tenants;
begin
  if coalesce(options ->> 'after', '') !~ '^\d{1,18}$' then
    perform tenantry.raise_error('TY010', 'after is a whole number');
  end if;
  select * into change from tenantry.changes as c where c.pos = advance_consumer_v1.pos;
  if change.pos is null or change.pos <= (options ->> 'after')::bigint then
    perform tenantry.raise_error('TY010', format('no change after %s has the position %s', options ->> 'after', pos));
  end if;
  select * into known from tenantry.consumers as c where c.name = consumer for no key update skip locked;
  if known.name is null or known.parked_at is not null or known.pos <> (options ->> 'after')::bigint then
    return jsonb_build_object('taken', true);
  end if;
  update tenantry.consumers as c
  set pos = change.pos, moved_at = clock_timestamp(), failing = null, attempts = 0, error = null, retry_at = null
  where c.name = consumer;
  select * into tenant from tenantry.tenants as t where t.id = change.tenant_id and t.purged_at is null;
  return jsonb_build_object('taken', false, 'context', case when tenant.id is not null then tenantry.describe_app(tenant) end);
end
$$;
