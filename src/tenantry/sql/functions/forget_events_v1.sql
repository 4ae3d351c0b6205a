-- Deletes deliveries received before a time; answers {"forgotten": n}. Dead letters and refused deliveries stay. A
-- delivery forgotten is no duplicate when it comes again, so the last 7 days, in which Clerk's sender tries again, are
-- kept: a later time is refused with TY010. Who may call: tenantry_app.
create or replace function tenantry.forget_events_v1(before timestamptz)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  forgotten bigint;
begin
  if before is null or before > now() - interval '7 days' then
    perform tenantry.raise_error('TY010', format('before is %s: it must be a time at least 7 days ago', coalesce(before::text, 'null')));
  end if;
  delete from tenantry.webhook_events where received_at < before and outcome in ('applied', 'stale', 'ignored');
  get diagnostics forgotten = row_count;
  return jsonb_build_object('forgotten', forgotten);
end
$$;
