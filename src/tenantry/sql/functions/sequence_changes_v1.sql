-- Gives committed changes their place in the order of reading; answers {"sequenced": n}. Readers call it first, in a
-- transaction of its own: the places it gives are read by others after the commit. Two never run at a time, so places
-- are committed in order and a reader that goes by them skips none. A transaction that wrote changes and is forgotten
-- holds up nobody: its changes get places when it commits. A caller that forgets *this* transaction is disconnected by
-- the server after 5 seconds, which is the longest a reader can be stalled.
create or replace function tenantry.sequence_changes_v1()
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  sequenced bigint;
begin
  perform set_config('idle_in_transaction_session_timeout', '5s', true);
  if not pg_try_advisory_xact_lock(hashtext('tenantry.sequence'), 0) then
    return jsonb_build_object('sequenced', 0);  -- somebody else is at it
  end if;
  with placed as (
    update tenantry.changes as c set pos = next.pos
    from (select seq, nextval('tenantry.changes_pos') as pos
          from (select seq from tenantry.changes where pos is null order by seq limit 10000) as unplaced) as next
    where c.seq = next.seq
    returning 1
  )
  select count(*) into sequenced from placed;
  return jsonb_build_object('sequenced', sequenced);
end
$$;
