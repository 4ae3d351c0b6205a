-- Deliveries in the inbox, the newest first, without what they tell.
--
-- options: {"types": ["user.created", "organization.*", ...], "outcomes": ["failed", ...], "org_id", "user_id",
--           "since": <time, as text>, "limit": n, at most 1000; 50 unless given,
--           "oldest_first": true, "after": {"received_at", "message_id"}: those that follow this one}
-- returns: [{"message_id", "type", "outcome", "error_code", "error", "org_id", "user_id", "occurred_at", "received_at",
--            "conflicts", "replays", "replayed_at"}, ...]
--
-- Who may call: tenantry_app. The conditions are written out, so that each finds its index.
create or replace function tenantry.list_events_v1(options jsonb default '{}')
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp set jit = off as $$
declare
  types    constant text[] := tenantry.clerk_texts(options, 'types');
  outcomes constant text[] := tenantry.clerk_texts(options, 'outcomes');
  after    constant jsonb := nullif(options -> 'after', 'null');
  upwards  constant boolean := coalesce(options -> 'oldest_first' = 'true', false);
  wanted   text := 'true';
  since    timestamptz;
  found    jsonb;
begin
  if jsonb_typeof(options) is distinct from 'object' then
    perform tenantry.raise_error('TY010', 'options are no object');
  elsif coalesce(options ->> 'limit', '50') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'limit is no whole number');
  end if;
  if jsonb_typeof(options -> 'types') not in ('array', 'null') or jsonb_typeof(options -> 'outcomes') not in ('array', 'null') then
    perform tenantry.raise_error('TY010', 'types or outcomes are no list');
  end if;
  begin
    since := options ->> 'since';
    if after is not null then
      wanted := format('(received_at, message_id) %s (%L::timestamptz, %L)',
        case when upwards then '>' else '<' end, (after ->> 'received_at')::timestamptz, after ->> 'message_id');
    end if;
  exception when data_exception then
    perform tenantry.raise_error('TY010', 'since or after is no time');
  end;
  if since is not null then
    wanted := wanted || format(' and received_at >= %L', since);
  end if;
  if outcomes is not null then
    wanted := wanted || format(' and outcome = any (%L)', outcomes);
    if outcomes <@ '{failed,refused}' then
      wanted := wanted || ' and outcome in (''failed'', ''refused'')';
    end if;
  end if;
  if types is not null then
    wanted := wanted || format(' and type = any (%L)', array(
      select type from tenantry.received_types() as type where type = any (types) or split_part(type, '.', 1) || '.*' = any (types)));
  end if;
  if options ->> 'org_id' is not null then
    wanted := wanted || format(' and org_id = %L', options ->> 'org_id');
  end if;
  if options ->> 'user_id' is not null then
    wanted := wanted || format(' and user_id = %L', options ->> 'user_id');
  end if;
  execute format($query$
    select coalesce(jsonb_agg(to_jsonb(e) order by e.received_at %2$s, e.message_id %2$s), '[]') from (
      select message_id, type, outcome, error_code, error, org_id, user_id, occurred_at, received_at, conflicts, replays, replayed_at
      from tenantry.webhook_events where %1$s
      order by received_at %2$s, message_id %2$s limit $1) as e
    $query$, wanted, case when upwards then 'asc' else 'desc' end)
  using least(coalesce((options ->> 'limit')::integer, 50), 1000) into found;
  return found;
end
$$;
