-- Records one event: see record_events_v1. For psql and scripts; a receiver hands over the delivery's own bytes there.
create or replace function tenantry.record_event_v1(message_id text, event jsonb)
returns jsonb language sql volatile security definer set search_path = pg_catalog, tenantry, pg_temp as $$
  select tenantry.record_events_v1(jsonb_build_array(jsonb_build_object('message_id', message_id, 'body', event::text))) -> 0
$$;
