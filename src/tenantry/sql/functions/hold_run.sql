-- TY021 unless this process is the one that works on the run.
create or replace function tenantry.hold_run(run_id bigint, attempt integer)
returns void language plpgsql stable as $$
begin
  if not exists (
    select from tenantry.reconcile_runs as r where r.id = run_id and r.attempt = hold_run.attempt and r.finished_at is null
  ) then
    perform tenantry.raise_error('TY021', format('run %s goes on in another process, or has ended', run_id));
  end if;
end
$$;
