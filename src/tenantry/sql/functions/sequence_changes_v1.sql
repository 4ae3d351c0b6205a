-- Gives committed changes their place in the order of reading; answers {"sequenced": n}, and "busy": true where somebody
-- else is at it, who may have begun too early to see them all. Readers call it first, in a transaction of its own: the
-- places it gives are read by others after the commit, which also notifies those who LISTEN on `tenantry_changes`. Two
-- never run at a time, so places are committed in order and a reader that goes by them skips none. A transaction that
-- wrote changes and is forgotten holds up nobody: its changes get places when it commits. A caller that forgets *this*
-- transaction is disconnected by the server after 5 seconds, which is the longest a reader can be stalled.
-- The notice is sent here and not where changes are written: commits that notify wait for each other.
create or replace function tenantry.sequence_changes_v1()
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  sequenced bigint;
begin
  perform set_config('idle_in_transaction_session_timeout', '5s', true);
  if not pg_try_advisory_xact_lock(hashtext('tenantry.sequence'), 0) then
    return jsonb_build_object('sequenced', 0, 'busy', true);
  end if;
  sequenced := tenantry.place_changes(10000);
  if sequenced > 0 then
    perform pg_notify('tenantry_changes', '');
  end if;
  return jsonb_build_object('sequenced', sequenced);
end
$$;
