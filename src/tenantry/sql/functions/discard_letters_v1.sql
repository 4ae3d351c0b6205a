-- Deletes dead letters and refused deliveries that nobody will be able to read: {"discarded": [message ids]}. Others stay
-- (forget_events_v1 is for those), and an id that is none is left out. One that comes again is a new delivery.
--
-- Who may call: tenantry_app. Locks: message ids in order, as recording and replaying do.
create or replace function tenantry.discard_letters_v1(ids text[])
returns jsonb language sql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
  select pg_advisory_xact_lock(hashtext('tenantry.message'), bucket)
  from (select distinct hashtext(message_id) as bucket from unnest(ids) as message_id order by 1) as locks;
  with discarded as (
    delete from tenantry.webhook_events where message_id = any (ids) and outcome in ('failed', 'refused') returning message_id
  )
  select jsonb_build_object('discarded', coalesce(jsonb_agg(message_id order by message_id), '[]')) from discarded
$$;
