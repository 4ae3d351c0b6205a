-- The deliveries received before a time that may be forgotten. Dead letters and refused ones stay, and so does the last of
-- each type, whatever its age: it says since when deliveries have stopped, and that the type is ticked.
create or replace function tenantry.forgettable(before timestamptz)
returns table (message_id text, received_at timestamptz) language sql stable as $$
  select e.message_id, e.received_at
  from tenantry.webhook_events as e
  where e.received_at < before and e.outcome in ('applied', 'stale', 'ignored')
    and e.received_at < (select tenantry.last_heard())
    and (e.type is null or e.received_at < (
      select last.received_at from tenantry.webhook_events as last
      where last.type = e.type and last.outcome <> 'refused' order by last.received_at desc limit 1))
$$;
