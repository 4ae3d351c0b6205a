-- The body that a dead letter keeps: as it came, save private metadata that nobody asked to keep. `event`: the body read,
-- or null where it is no JSON.
create or replace function tenantry.body_of_dead_letter(delivery jsonb, event jsonb)
returns text language sql immutable parallel safe as $$
  select case
    when event is null or delivery -> 'keep_private_metadata' = 'true' or tenantry.without_private_metadata(event) = event
    then delivery ->> 'body'
    else tenantry.without_private_metadata(event)::text
  end
$$;
