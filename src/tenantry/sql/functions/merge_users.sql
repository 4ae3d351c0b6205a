-- Merges snapshots of users, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order.
create or replace function tenantry.merge_users(rows tenantry.users[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  written text[];
begin
  with changed as (
    insert into tenantry.users as t (
      id, first_name, last_name, username, primary_email, image_url, external_id, banned, public_metadata,
      created_at,
      revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
    select distinct on (r.id)
      r.id, r.first_name, r.last_name, r.username, r.primary_email, r.image_url, r.external_id,
      coalesce(r.banned, false), r.public_metadata, r.created_at,
      coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
      coalesce(r.revision > 0 and min(r.content_hash) over ties <> max(r.content_hash) over ties, false),
      max(r.last_seen) over every, max(r.last_absent) over every, max(r.deleted_at) over every
    from unnest(rows) as r
    left join tenantry.users as k on k.id = r.id
    where k.id is null or tenantry.is_news(
      k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
      coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
      r.last_seen, r.last_absent, r.deleted_at, firm)
    window every as (partition by r.id),
           ties as (partition by r.id, r.revision)
    order by r.id, r.revision desc nulls last, r.observed_at desc nulls last, r.content_hash desc nulls last
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
      deleted_at = excluded.deleted_at
    returning t.id
  )
  select coalesce(array_agg(changed.id), '{}') into written from changed;
  return written;
end
$$;
