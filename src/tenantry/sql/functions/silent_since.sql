-- The time of the last delivery, or where there was none of the installation: what changed at Clerk before it needed not
-- be told since. Clerk's clock may be ahead of this one: then its own word counts, within an hour.
create or replace function tenantry.silent_since()
returns timestamptz language plpgsql stable as $$
begin
  return coalesce(
    (select greatest(e.received_at, least(e.occurred_at, e.received_at + interval '1 hour')) from tenantry.webhook_events as e
     where e.outcome <> 'refused' order by e.received_at desc limit 1),
    (select min(applied_at) from tenantry.migrations));
end
$$;
