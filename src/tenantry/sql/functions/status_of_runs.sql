-- What status_v1 says of reconcile runs. `last`: the newest run of everything, quick ones aside; `under_way`: somebody is
-- at it now. `backfilled_at`: when the last that was not dry ended. `repaired`: {"users": {"created": n, "updated": n,
-- "ended": n}, ...}, how many runs have found such changes since deliveries come at all, beginning with the second: the
-- first finds what is older than the deliveries.
create or replace function tenantry.status_of_runs(out last jsonb, out backfilled_at timestamptz, out repaired jsonb)
language plpgsql stable as $$
declare
  first_heard constant timestamptz := (select min(e.received_at) from tenantry.webhook_events as e);
begin
  select jsonb_build_object('id', r.id, 'dry', r.dry, 'started_at', r.started_at, 'finished_at', r.finished_at,
    'counts', r.counts, 'drift', r.drift, 'under_way', r.finished_at is null and exists (
      select from pg_locks as l
      where l.locktype = 'advisory' and l.granted and l.objid = 0 and l.classid::bigint = hashtext('tenantry.reconcile')::bigint & 4294967295
        and l.database = (select d.oid from pg_database as d where d.datname = current_database())))
  into last
  from tenantry.reconcile_runs as r where r.org_id is null and r.state -> 'quick' is distinct from 'true' order by r.id desc limit 1;

  backfilled_at := (
    select r.finished_at from tenantry.reconcile_runs as r
    where r.org_id is null and not r.dry and r.state -> 'quick' is distinct from 'true' and r.finished_at is not null
    order by r.id desc limit 1);

  select coalesce(jsonb_object_agg(kind, runs), '{}') into repaired from (
    select c.key as kind, jsonb_build_object(
      'created', count(*) filter (where (c.value ->> 'created')::bigint > 0), 'updated', count(*) filter (where (c.value ->> 'updated')::bigint > 0),
      'ended', count(*) filter (where (c.value ->> 'ended')::bigint > 0)) as runs
    from (select r.counts, row_number() over (order by r.id) as number
          from (select * from tenantry.reconcile_runs order by id desc limit 100) as r
          where r.org_id is null and not r.dry and r.finished_at is not null and r.started_at > first_heard) as run
    cross join lateral jsonb_each(run.counts) as c
    where run.number > 1
    group by c.key) as kinds;
end
$$;
