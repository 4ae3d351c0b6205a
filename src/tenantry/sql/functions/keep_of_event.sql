-- What the inbox keeps of an event: neither the address it was caused from, nor an invitation's link, which is a secret,
-- nor private metadata unless asked for.
create or replace function tenantry.keep_of_event(event jsonb, keep_private_metadata boolean)
returns jsonb language plpgsql immutable parallel safe as $$
begin
  event := event - 'event_attributes';
  if event -> 'data' ? 'url' then
    event := event #- '{data,url}';
  end if;
  return case when keep_private_metadata then event else tenantry.without_private_metadata(event) end;
end
$$;
