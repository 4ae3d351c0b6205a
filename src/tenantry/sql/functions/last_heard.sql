-- When this instance's last delivery was received, or null where none was.
create or replace function tenantry.last_heard()
returns timestamptz language plpgsql stable as $$
begin
  return (select e.received_at from tenantry.webhook_events as e where e.outcome <> 'refused' order by e.received_at desc limit 1);
end
$$;
