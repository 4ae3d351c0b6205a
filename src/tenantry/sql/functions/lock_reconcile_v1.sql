-- Makes this transaction the one that reconciles, for as long as it is open, or answers that another is: {"locked": bool}.
-- Held open beside the transactions of the run, whose process may die: then the lock is free at once. Reads no table, so
-- that it holds up no vacuum. Who may call: tenantry_app.
create or replace function tenantry.lock_reconcile_v1()
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  perform set_config('idle_in_transaction_session_timeout', '0', true);
  return jsonb_build_object('locked', pg_try_advisory_xact_lock(hashtext('tenantry.reconcile'), 0));
end
$$;
