-- Deletes what the mirror, the inbox and the feed hold of a deleted tenant, a part a call, each in a transaction of its own.
-- Memberships, invitations and domains go; deliveries about it, dead letters too, keep no content; of its changes the feed
-- keeps that they happened; the tenant's row keeps its ids, and that it was deleted, for ever.
--
-- options: {"limit": rows a call; 1000 unless given, "after": <seq, as the answer before said>}
-- returns: {"table": <what was done>, "rows": n, "after": seq, "done": whether there is nothing more to do}
-- raises:  TY010 unless end_tenant_v1 made its end final; TY020 where no tenant has this id
--
-- Who may call: tenantry_app, when the tenant's rows in isolated tables are gone. Locks: as end_tenant_v1, so that what
-- is merged meanwhile is either found here, or finds the tenant purged (without_purged, answer_batch).
create or replace function tenantry.purge_tenant_v1(id text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  tenant  constant tenantry.tenants := tenantry.find_tenant(id);
  most    integer;
  since   bigint;
  upto    bigint;
  kept    text;
  deleted bigint;
begin
  if coalesce(options ->> 'limit', '1000') !~ '^[1-9]\d{0,5}$' or coalesce(options ->> 'after', '0') !~ '^\d{1,17}$' then
    perform tenantry.raise_error('TY010', 'limit is a whole number up to 999999, after one up to 17 digits');
  elsif tenant.deleted_at is null then
    perform tenantry.raise_error('TY010', format('tenant %s is not deleted', id));
  end if;
  most := coalesce(options ->> 'limit', '1000');
  since := coalesce(options ->> 'after', '0');
  upto := since + 20 * most;
  perform tenantry.lock_tenant(tenant.id);
  foreach kept in array array['tenant_memberships', 'invitations', 'domains'] loop
    execute format('delete from tenantry.%I where id = any (array(select id from tenantry.%1$I where tenant_id = $1 limit $2))', kept)
    using tenant.id, most;
    get diagnostics deleted = row_count;
    if deleted > 0 then
      return jsonb_build_object('table', 'tenantry.' || kept, 'rows', deleted, 'after', 0, 'done', false);
    end if;
  end loop;
  deleted := tenantry.empty_letters(array(
    select message_id from tenantry.webhook_events
    where org_id = tenant.clerk_org_id and (data is not null or body is not null)
    union all
    select message_id from tenantry.webhook_events
    where outcome = 'failed' and body is not null and num_nonnulls(org_id, user_id) = 0  -- nobody could read whose it is
      and tenantry.body_tells_of(body, tenantry.pattern_of(tenant.clerk_org_id, '{}'))
    limit most));
  if deleted > 0 then
    return jsonb_build_object('table', 'tenantry.webhook_events', 'rows', deleted, 'after', 0, 'done', false);
  end if;
  update tenantry.changes as c set before = null, after = null
  where c.seq > since and c.seq <= upto and c.tenant_id = tenant.id and (c.before is not null or c.after is not null);
  get diagnostics deleted = row_count;
  if exists (select from tenantry.changes where seq > upto) then
    return jsonb_build_object('table', 'tenantry.changes', 'rows', deleted, 'after', upto, 'done', false);
  end if;
  update tenantry.tenants as t set purged_at = coalesce(t.purged_at, now()), name = null, slug = null, image_url = null,
    public_metadata = null, role_set_key = null
  where t.id = tenant.id;
  return jsonb_build_object('table', 'tenantry.changes', 'rows', deleted, 'after', upto, 'done', true);
end
$$;
