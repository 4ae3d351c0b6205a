-- Raises the alarm: {"since": <as watch_silence_v1 said>, "changed_at": <ms, Clerk's clock>} -> {"raised": bool}: true for
-- one caller, once, and false where a delivery has come meanwhile. Raises TY010. Who may call: tenantry_app.
create or replace function tenantry.raise_silence_v1(silence jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  changed constant timestamptz := tenantry.clerk_time(silence -> 'changed_at');
begin
  if changed is null or jsonb_typeof(silence -> 'since') is distinct from 'string' then
    perform tenantry.raise_error('TY010', 'since or changed_at is missing');
  end if;
  update tenantry.silence as s set raised_at = clock_timestamp(), changed_at = changed
  where s.since = (silence ->> 'since')::timestamptz and s.since = tenantry.silent_since() and s.raised_at is null;
  return jsonb_build_object('raised', found);
end
$$;
