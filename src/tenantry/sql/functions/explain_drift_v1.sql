-- The likely cause of each drift, from the inbox: [{"id": "<Clerk id>", "changed_at": <ms or null>}, ...] ->
-- {"<id>": "failed" | "on its way" | "unknown" | "forgotten or never received" | "never received", ...}
--   failed          an event about it became a dead letter
--   on its way      it changed at Clerk within the last two minutes: the event may come yet
--   unknown         an event about it came after the change, and yet the mirror differs
--   forgotten or never received  it changed before the time up to which deliveries were forgotten
--   never received  no event about it came
-- Who may call: tenantry_app.
create or replace function tenantry.explain_drift_v1(drift jsonb, observed_at bigint)
returns jsonb language plpgsql stable security definer
set search_path = pg_catalog, tenantry, pg_temp set jit = off
as $$
begin
  return (
    with drifted as materialized (
      select d ->> 'id' as id, max(tenantry.clerk_time(d -> 'changed_at')) as changed_at
      from jsonb_array_elements(drift) as d group by 1
    ), told as materialized (
      select e.data #>> '{data,id}' as id, max(e.occurred_at) as at
      from tenantry.webhook_events as e
      where e.outcome in ('applied', 'stale') and e.received_at >= (select min(coalesce(changed_at, '-infinity')) from drifted)
        and e.data #>> '{data,id}' in (select id from drifted)
      group by 1
    )
    select coalesce(jsonb_object_agg(d.id, case
      when exists (select from tenantry.webhook_events as e where e.outcome = 'failed'
                   and (e.data #>> '{data,id}' = d.id or strpos(e.body, d.id) > 0)) then 'failed'
      when d.changed_at > to_timestamp(observed_at / 1000.0) - interval '2 minutes' then 'on its way'
      when t.at >= d.changed_at then 'unknown'
      when d.changed_at < (select r.before from tenantry.retention as r) then 'forgotten or never received'
      else 'never received' end), '{}')
    from drifted as d left join told as t on t.id = d.id);
end
$$;
