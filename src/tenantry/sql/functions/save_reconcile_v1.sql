-- Keeps where a run is: {"id", "attempt", "state"?, "counts"?, "drift"?, "finished": bool}; answers {}. TY021 where another
-- process has taken the run over. Who may call: tenantry_app.
create or replace function tenantry.save_reconcile_v1(run jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
begin
  perform tenantry.hold_run((run ->> 'id')::bigint, (run ->> 'attempt')::integer);
  update tenantry.reconcile_runs as r set
    touched_at = now(),
    finished_at = case when run -> 'finished' = 'true' then now() end,
    state = coalesce(run -> 'state', r.state),
    counts = coalesce(run -> 'counts', r.counts),
    drift = coalesce(run -> 'drift', r.drift)
  where r.id = (run ->> 'id')::bigint;
  if run -> 'finished' = 'true' then
    delete from tenantry.reconcile_pages where run_id = (run ->> 'id')::bigint;
  end if;
  return '{}';
end
$$;
