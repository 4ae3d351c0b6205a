-- One delivery, as the inbox has it, and what it changed; null where there is none.
--
-- returns: what list_events_v1 says of it, {"instance_id", "data": the event, "body": a dead letter's text as it came,
--           "changes": [{"pos", "kind", "object_id", "tenant_id", "user_id", "before", "after", "at"}, ...]}
--
-- Who may call: tenantry_app.
create or replace function tenantry.read_event_v1(message_id text)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp set jit = off as $$
begin
  return coalesce((
    select to_jsonb(e) - 'digest' || jsonb_build_object('changes', (
      select coalesce(jsonb_agg(to_jsonb(c) - '{seq,cause,message_id}'::text[] order by c.seq), '[]')
      from tenantry.changes as c where c.message_id = e.message_id))
    from tenantry.webhook_events as e where e.message_id = read_event_v1.message_id), 'null');
end
$$;
