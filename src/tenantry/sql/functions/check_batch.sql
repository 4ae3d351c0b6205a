-- Refuses (TY010) what is no array of deliveries.
create or replace function tenantry.check_batch(batch jsonb)
returns void language plpgsql as $$
begin
  if jsonb_typeof(batch) is distinct from 'array' then
    perform tenantry.raise_error('TY010', 'the batch is not an array');
  elsif exists (select from jsonb_array_elements(batch) as d
                where tenantry.clerk_text(d, 'message_id') is null or jsonb_typeof(d -> 'body') is distinct from 'string') then
    perform tenantry.raise_error('TY010', 'a delivery lacks message_id or body');
  end if;
  perform tenantry.check_ids(variadic array(select d ->> 'message_id' from jsonb_array_elements(batch) as d));
end
$$;
