-- Merges snapshots of domains, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order.
create or replace function tenantry.merge_domains(rows tenantry.domains[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.domains[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.id) into news, written
  from unnest(rows) as r left join tenantry.domains as k on k.id = r.id
  where k.id is null or (k.tenant_id is null and r.tenant_id is not null) or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.domains (
    id, tenant_id, name, enrollment_mode, verified, created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.tenant_id, r.name, r.enrollment_mode, r.verified, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    r.last_seen, r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.domains, null::tenantry.domains)) as r
  on conflict (id) do update set
    tenant_id = excluded.tenant_id,
    name = excluded.name,
    enrollment_mode = excluded.enrollment_mode,
    verified = excluded.verified,
    created_at = excluded.created_at,
    revision = excluded.revision,
    observed_at = excluded.observed_at,
    content_hash = excluded.content_hash,
    needs_refetch = excluded.needs_refetch,
    last_seen = excluded.last_seen,
    last_absent = excluded.last_absent,
    deleted_at = excluded.deleted_at;
  return written;
end
$$;
