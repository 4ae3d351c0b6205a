-- Deletes deliveries received before a time; answers {"forgotten": n}. Dead letters, refused deliveries and the last of
-- each type stay, see forgettable. A delivery forgotten is no duplicate when it comes again, so the last 7 days, in which Clerk's sender tries again, are
-- kept: a later time is refused with TY010.
--
-- options: {"limit": n: the n oldest at most, so that a caller may go on in further transactions,
--           "dry_run": true: counts them and deletes none}
--
-- Who may call: tenantry_app. One at a time: where another is at it, nothing is deleted, and the answer has "busy": true.
create or replace function tenantry.forget_events_v1(before timestamptz, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  most      bigint;
  forgotten bigint;
begin
  if before is null or before > now() - interval '7 days' then
    perform tenantry.raise_error('TY010', format('before is %s: it must be a time at least 7 days ago', coalesce(before::text, 'null')));
  elsif coalesce(options ->> 'limit', '1') !~ '^[1-9]\d{0,8}$' then
    perform tenantry.raise_error('TY010', 'limit is no whole number above 0');
  end if;
  most := (options ->> 'limit')::bigint;
  if options -> 'dry_run' = 'true' then
    select count(*) into forgotten from tenantry.forgettable(before);
  elsif not pg_try_advisory_xact_lock(hashtext('tenantry.forget'), 0) then
    return jsonb_build_object('forgotten', 0, 'busy', true);
  else
    delete from tenantry.webhook_events where message_id = any (array(
      select f.message_id from tenantry.forgettable(before) as f order by f.received_at limit most));
    get diagnostics forgotten = row_count;
    if forgotten > 0 then
      insert into tenantry.retention as r (before) values (forget_events_v1.before)
      on conflict (singleton) do update set before = greatest(r.before, excluded.before);
    end if;
  end if;
  return jsonb_build_object('forgotten', forgotten);
end
$$;
