-- Merges snapshots of permissions, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order.
create or replace function tenantry.merge_permissions(rows tenantry.permissions[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.permissions[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.id) into news, written
  from unnest(rows) as r left join tenantry.permissions as k on k.id = r.id
  where k.id is null or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.permissions (
    id, key, name, description, type, created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.key, r.name, r.description, r.type, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    r.last_seen, r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.permissions, null::tenantry.permissions)) as r
  on conflict (id) do update set
    key = excluded.key,
    name = excluded.name,
    description = excluded.description,
    type = excluded.type,
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
