-- Begins a reconcile run, or goes on with one that was stopped less than an hour ago.
--
-- options: {"instance_id": "ins_..." (required: TY018 if the database mirrors another), "started_at": <ms, Clerk's clock,
--           required>, "org_id": "org_..." for one organization alone, "dry_run": bool, "fresh": true to go on with none,
--           "unless_within": <seconds>: only where no run of everything has ended within them}
-- returns: {"id", "attempt", "started_at": <ms>, "resumed": bool, "state": {...}}, or {} where none is due
--
-- Who may call: tenantry_app, while another transaction of it holds lock_reconcile_v1.
create or replace function tenantry.begin_reconcile_v1(options jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
declare
  begun_at constant timestamptz := tenantry.clerk_time(options -> 'started_at');
  only_org constant text := tenantry.clerk_text(options, 'org_id');
  is_dry   constant boolean := coalesce(options -> 'dry_run' = 'true', false);
  run      tenantry.reconcile_runs;
begin
  if begun_at is null or tenantry.clerk_text(options, 'instance_id') is null then
    perform tenantry.raise_error('TY010', 'options lack started_at or instance_id');
  elsif coalesce(options ->> 'unless_within', '0') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'unless_within is no whole number of seconds');
  end if;
  perform tenantry.check_ids(only_org);
  perform tenantry.bind_instance(tenantry.clerk_text(options, 'instance_id'));
  if exists (
    select from tenantry.reconcile_runs as r where r.org_id is null and not r.dry and r.state -> 'quick' is distinct from 'true'
      and r.finished_at > now() - coalesce(options ->> 'unless_within', '0')::integer * interval '1 second'
  ) then
    return '{}';
  end if;

  select * into run from tenantry.reconcile_runs as r order by r.id desc limit 1 for update;
  if run.finished_at is null and run.touched_at > now() - interval '1 hour' and run.org_id is not distinct from only_org
     and not run.dry and not is_dry and options -> 'fresh' is distinct from 'true' then
    update tenantry.reconcile_runs as r set attempt = r.attempt + 1, touched_at = now() where r.id = run.id returning * into run;
  else
    delete from tenantry.reconcile_pages;
    insert into tenantry.reconcile_runs (org_id, dry, started_at) values (only_org, is_dry, begun_at) returning * into run;
  end if;
  return jsonb_build_object('id', run.id, 'attempt', run.attempt, 'resumed', run.attempt > 1, 'state', run.state,
    'started_at', (extract(epoch from run.started_at) * 1000)::bigint);
end
$$;
