-- Refuses (TY010) what is no array of deliveries, each with a body of its own or in `bodies`; answers their message ids,
-- in order.
create or replace function tenantry.check_batch(batch jsonb, bodies text[])
returns text[] language plpgsql as $$
declare
  delivery jsonb;
  id       text;
  ids      text[] := '{}';
begin
  if jsonb_typeof(batch) is distinct from 'array' then
    perform tenantry.raise_error('TY010', 'the batch is not an array');
  end if;
  for n in 0 .. jsonb_array_length(batch) - 1 loop
    delivery := batch -> n;
    id := tenantry.clerk_text(delivery, 'message_id');
    if id is null or (bodies[n + 1] is null and jsonb_typeof(delivery -> 'body') is distinct from 'string') then
      perform tenantry.raise_error('TY010', 'a delivery lacks message_id or body');
    end if;
    ids := ids || id;
  end loop;
  perform tenantry.check_ids(variadic ids);
  return ids;
end
$$;
