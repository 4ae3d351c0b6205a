-- The types of deliveries that the inbox has, read from its index however many there are of each.
create or replace function tenantry.received_types()
returns setof text language sql stable set enable_seqscan = off as $$
  with recursive received(type) as (
    select min(e.type) from tenantry.webhook_events as e
    union all
    select (select min(e.type) from tenantry.webhook_events as e where e.type > received.type) from received where received.type is not null
  )
  select type from received where type is not null
$$;
