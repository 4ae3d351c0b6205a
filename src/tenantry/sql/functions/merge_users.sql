-- Merges snapshots of users, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order.
create or replace function tenantry.merge_users(rows tenantry.users[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.users[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.id) into news, written
  from unnest(rows) as r left join tenantry.users as k on k.id = r.id
  where k.id is null or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.users (
    id, first_name, last_name, username, primary_email, image_url, external_id, banned, public_metadata,
    created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.first_name, r.last_name, r.username, r.primary_email, r.image_url, r.external_id,
    coalesce(r.banned, false), r.public_metadata, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    r.last_seen, r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.users, null::tenantry.users)) as r
  on conflict (id) do update set
    first_name = excluded.first_name,
    last_name = excluded.last_name,
    username = excluded.username,
    primary_email = excluded.primary_email,
    image_url = excluded.image_url,
    external_id = excluded.external_id,
    banned = excluded.banned,
    public_metadata = excluded.public_metadata,
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
