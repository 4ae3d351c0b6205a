-- Notes that a consumer's handler failed at a change; after too many times in a row it is parked.
--
-- pos:     the change's
-- options: {"error": "<what went wrong>", "attempts": <when it is parked, default 10>, "backoff": <seconds before the
--           second attempt, default 1; they double, up to five minutes>}
-- returns: {"attempts": n, "parked": true or false}; {"attempts": 0, "parked": false} where somebody else is at the
--          consumer or has dealt with the change
--
-- Who may call: tenantry_app, after the transaction of the failed attempt.
create or replace function tenantry.fail_consumer_v1(consumer text, pos bigint, options jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  known   tenantry.consumers;
  count   integer;
  pause   interval;
  is_last boolean;
begin
  if coalesce(options ->> 'attempts', '1') !~ '^[1-9]\d{0,5}$' or coalesce(options ->> 'backoff', '0') !~ '^\d{1,5}(\.\d{1,6})?$' then
    perform tenantry.raise_error('TY010', 'attempts is a whole number from 1 on, backoff a number of seconds');
  end if;
  select * into known from tenantry.consumers as c
  where c.name = consumer and c.pos < fail_consumer_v1.pos and c.parked_at is null for no key update skip locked;
  if known.name is null then
    return jsonb_build_object('attempts', 0, 'parked', false);
  end if;
  count := known.attempts + 1;
  is_last := count >= coalesce((options ->> 'attempts')::integer, 10);
  pause := make_interval(secs => least(coalesce((options ->> 'backoff')::double precision, 1) * 2 ^ least(count - 1, 20), 300));
  update tenantry.consumers as c
  set failing = fail_consumer_v1.pos, attempts = count, error = left(options ->> 'error', 1000),
      retry_at = case when not is_last then clock_timestamp() + pause end,
      parked_at = case when is_last then clock_timestamp() end
  where c.name = consumer;
  return jsonb_build_object('attempts', count, 'parked', is_last);
end
$$;
