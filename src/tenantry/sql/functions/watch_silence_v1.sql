-- Whether Clerk is to be asked for changes that no delivery told of: {"after": <seconds without a delivery>, "every":
-- <seconds between two questions>} -> {"since": <the last delivery, or the installation>, "instance_id"}, or {} where one
-- came lately, where somebody has asked lately, and where the alarm was raised. Of many that call at once one gets the
-- question.
-- Raises TY010. Who may call: tenantry_app.
create or replace function tenantry.watch_silence_v1(options jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  heard constant timestamptz := tenantry.silent_since();
begin
  if jsonb_typeof(options -> 'after') is distinct from 'number' or jsonb_typeof(options -> 'every') is distinct from 'number' then
    perform tenantry.raise_error('TY010', 'after and every are numbers of seconds');
  end if;
  if heard > now() - (options ->> 'after')::double precision * interval '1 second' then
    return '{}';
  end if;
  insert into tenantry.silence as s (since, asked_at) values (heard, clock_timestamp())
  on conflict (singleton) do update set
    since = excluded.since, asked_at = excluded.asked_at, changed_at = null, raised_at = null
  where s.since <> excluded.since
     or (s.raised_at is null and s.asked_at < now() - (options ->> 'every')::double precision * interval '1 second');
  return case when found then jsonb_build_object('since', heard, 'instance_id', tenantry.bound_instance()) else '{}' end;
end
$$;
