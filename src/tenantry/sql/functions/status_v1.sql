-- What there is to know of mirror, inbox and feed, in one call of a few milliseconds however much they hold: what may be
-- long is counted up to 1000, dead letters up to 10000.
--
-- returns: {"at", "schema": <highest migration>, "instance_id",
--   "heard_at": <last delivery>, "silent_since", "silence": {"since", "changed_at", "raised_at"} while the alarm holds,
--   "seen", "unseen": the types that the mirror uses, by whether the inbox has any,
--   "dead_letters": {"count", "newest_at", "by_type": {...}}, "refused": {"count": <of the last day>, "newest_at"},
--   "ties", "run", "backfilled_at", "repaired": see status_of_runs,
--   "unplaced": {"count", "since"},
--   "followers": [{"table", "behind"}, ...]: see follow_tenants_v1,
--   "consumers": [{"name", "state": as list_consumers_v1 has it, "behind", "since": <when the next change was written>}, ...]}
-- Who may call: tenantry_app. The planner settings: for a value that half of a table has, it would begin at the table's
-- beginning, and read all of it for one that no row has.
create or replace function tenantry.status_v1()
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp
set jit = off set enable_seqscan = off as $$
#variable_conflict use_variable
declare
  since  constant timestamptz := tenantry.silent_since();
  answer jsonb;
  runs   record;
begin
  answer := jsonb_build_object(
    'at', clock_timestamp(),
    'schema', (select max(m.number) from tenantry.migrations as m),
    'instance_id', tenantry.bound_instance(),
    'heard_at', tenantry.last_heard(),
    'silent_since', since,
    'silence', (select jsonb_build_object('since', s.since, 'changed_at', s.changed_at, 'raised_at', s.raised_at)
                from tenantry.silence as s where s.since = since and s.raised_at is not null),
    'ties', (select count(*) from (select from tenantry.ties() limit 1000) as t),
    'unplaced', (select jsonb_build_object('count', count(*), 'since', min(c.at))
                 from (select at from tenantry.changes where pos is null order by seq limit 1000) as c));

  answer := answer || (
    select jsonb_build_object('seen', coalesce(jsonb_agg(t.type) filter (where t.seen), '[]'),
                              'unseen', coalesce(jsonb_agg(t.type) filter (where not t.seen), '[]'))
    from (select u.type, (select true from tenantry.webhook_events as e where e.type = u.type limit 1) is not null as seen
          from tenantry.used_event_types() as u(type)) as t);

  answer := answer || jsonb_build_object('dead_letters', (
    select jsonb_build_object('count', coalesce(sum(d.number), 0), 'newest_at', max(d.newest),
                              'by_type', coalesce(jsonb_object_agg(d.type, d.number order by d.number desc), '{}'))
    from (select coalesce(l.type, 'unknown') as type, count(*) as number, max(l.received_at) as newest
          from (select e.type, e.received_at from tenantry.webhook_events as e where e.outcome = 'failed'
                order by e.received_at desc limit 10000) as l
          group by 1) as d));

  answer := answer || jsonb_build_object('refused', (
    select jsonb_build_object('count', count(*), 'newest_at', max(l.received_at))
    from (select e.received_at from tenantry.webhook_events as e
          where e.outcome = 'refused' and e.received_at > now() - interval '1 day' order by e.received_at desc limit 1000) as l));

  answer := answer || jsonb_build_object('consumers', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', c.name, 'behind', waiting.behind, 'since', waiting.since,
      'state', case when c.parked_at is not null then 'parked' when c.failing is not null then 'failing' else 'reading' end) order by c.name), '[]')
    from tenantry.consumers as c
    cross join lateral (
      select count(*) filter (where tenantry.is_of_kinds(w.kind, c.kinds)) as behind, min(w.at) as since
      from (select kind, at from tenantry.changes where pos > c.pos order by pos limit 1000) as w) as waiting));

  answer := answer || jsonb_build_object('followers', (
    select coalesce(jsonb_agg(jsonb_build_object('table', f.relation, 'behind', (
      select count(*) from (select from tenantry.follower_gaps as g where g.relation = f.relation limit 1000) as g)) order by f.relation::text), '[]')
    from tenantry.followers as f join pg_class as c on c.oid = f.relation));

  runs := tenantry.status_of_runs();
  return answer || jsonb_build_object('run', runs.last, 'backfilled_at', runs.backfilled_at, 'repaired', runs.repaired);
end
$$;
