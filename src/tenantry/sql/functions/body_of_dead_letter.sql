-- The body that a dead letter keeps: as it came, save what no delivery keeps (keep_of_event). Of a session, and of a type
-- the mirror does not use, that is everything, readable or not. `event`: the body read, or null where it could not be.
create or replace function tenantry.body_of_dead_letter(body text, event jsonb, keep_private_metadata boolean)
returns text language plpgsql immutable as $$
declare
  type text := event ->> 'type';
  kept jsonb;
begin
  if event is null then
    type := body::json ->> 'type';  -- no jsonb, but perhaps JSON
  end if;
  if type ~ '^\w+\.\w+$' and coalesce(tenantry.kind_of_event(type), 'sessions') = 'sessions' then
    return null;
  end if;
  kept := tenantry.keep_of_event(event, keep_private_metadata);
  return case when event is null or kept = event then body else kept::text end;
exception when data_exception or program_limit_exceeded then
  return body;  -- no JSON at all, or no object
end
$$;
