-- The live rows of a kind that no page of the run has shown, and that nothing has shown since it began: it may be that
-- Clerk has them no more. Rows of an ended organization or user are none of them, their end follows from that.
--
-- options: {"after": "<Clerk id>", "limit": n, at most 1000}
-- returns: {"live": <rows of the kind>, "unseen": <of them>, "rows": [{"id", "org_id", "user_id"}, ...] in order of id}
--
-- Who may call: tenantry_app.
create or replace function tenantry.list_unseen_v1(run_id bigint, kind text, options jsonb default '{}')
returns jsonb language plpgsql stable security definer
set search_path = pg_catalog, tenantry, pg_temp set jit = off
as $$
declare
  run    tenantry.reconcile_runs;
  places constant text := case kind
    when 'organizations' then 'select k.clerk_org_id as id, k.clerk_org_id as org_id, null::text as user_id, k.last_seen from tenantry.tenants as k
      where k.ended_at is null and k.clerk_org_id is not null'
    when 'memberships' then 'select k.id, t.clerk_org_id, k.user_id, k.last_seen from tenantry.tenant_memberships as k
      join tenantry.tenants as t on t.id = k.tenant_id and t.ended_at is null join tenantry.users as u on u.id = k.user_id and u.ended_at is null
      where k.ended_at is null'
    when 'invitations' then 'select k.id, t.clerk_org_id, null::text, k.last_seen from tenantry.invitations as k
      join tenantry.tenants as t on t.id = k.tenant_id and t.ended_at is null where k.ended_at is null'
    when 'domains' then 'select k.id, t.clerk_org_id, null::text, k.last_seen from tenantry.domains as k
      join tenantry.tenants as t on t.id = k.tenant_id and t.ended_at is null where k.ended_at is null'
    else format('select k.id, null::text, null::text, k.last_seen from %s as k where k.ended_at is null', tenantry.mirrored_table(kind))
  end;
  found  jsonb;
begin
  select * into run from tenantry.reconcile_runs as r where r.id = list_unseen_v1.run_id;
  if run.id is null or coalesce(options ->> 'limit', '0') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'there is no such run, or limit is no whole number');
  end if;
  execute format($query$
    with seen as materialized (
      select hash from tenantry.reconcile_pages as p, unnest(p.seen) as hash where p.run_id = $1 and p.kind = $2
    ), live as materialized (
      select place.id, place.org_id, place.user_id, place.last_seen from (%s) as place(id, org_id, user_id, last_seen)
      where $3 is null or place.org_id = $3
    ), unseen as materialized (
      select id, org_id, user_id from live
      where (last_seen is null or last_seen < $4) and not exists (select from seen where hash = hashtextextended(live.id, 0))
    )
    select jsonb_build_object('live', (select count(*) from live), 'unseen', (select count(*) from unseen),
      'rows', coalesce((select jsonb_agg(to_jsonb(page) order by id collate "C") from (
        select * from unseen where $5 is null or id collate "C" > $5 order by id collate "C" limit $6) as page), '[]'))
    $query$, places)
  using run.id, kind, run.org_id, run.started_at, tenantry.clerk_text(options, 'after'),
    least(coalesce((options ->> 'limit')::integer, 1000), 1000) into found;
  return found;
end
$$;
