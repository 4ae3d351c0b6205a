-- Has a consumer go on that has failed, parked or not: at the change it failed at, or, to skip that, after it. Waits for
-- an attempt that is under way.
--
-- options: {"skip": true}: pass over the change
-- returns: {"pos": n, "skipped": <the position passed over, or null>}
-- Raises TY010 where there is no such consumer, or it has not failed. Who may call: tenantry_app.
create or replace function tenantry.resume_consumer_v1(consumer text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  known   tenantry.consumers;
  skipped bigint;
begin
  select * into known from tenantry.consumers as c where c.name = consumer for no key update;
  if known.name is null then
    perform tenantry.raise_error('TY010', format('there is no consumer %L', consumer));
  elsif known.failing is null then
    perform tenantry.raise_error('TY010', format('the consumer %L has not failed', consumer));
  end if;
  skipped := case when options -> 'skip' = 'true' then known.failing end;
  update tenantry.consumers as c
  set pos = coalesce(skipped, c.pos), moved_at = clock_timestamp(), failing = null, attempts = 0, error = null, retry_at = null, parked_at = null
  where c.name = consumer;
  perform pg_notify('tenantry_changes', '');
  return jsonb_build_object('pos', coalesce(skipped, known.pos), 'skipped', skipped);
end
$$;
