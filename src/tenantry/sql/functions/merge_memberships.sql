-- Merges snapshots of memberships, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order. Known ids go before
-- new ones: who re-joined between two listings has left, then joined, as the triggers see it.
create or replace function tenantry.merge_memberships(rows tenantry.tenant_memberships[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  written text[] := '{}';
  turn text[];
  known boolean;
begin
  foreach known in array array[true, false] loop
    with changed as (
      insert into tenantry.tenant_memberships as t (
        id, tenant_id, user_id, role, permissions, public_metadata, created_at,
        revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
      select distinct on (r.id)
        r.id, r.tenant_id, r.user_id, r.role, r.permissions, r.public_metadata, r.created_at,
        coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
        coalesce(r.revision > 0 and min(r.content_hash) over ties <> max(r.content_hash) over ties, false),
        max(r.last_seen) over every, max(r.last_absent) over every, max(r.deleted_at) over every
      from unnest(rows) as r
      left join tenantry.tenant_memberships as k on k.id = r.id
      where (k.id is not null) = known and (k.id is null or tenantry.is_news(
        k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
        coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
        r.last_seen, r.last_absent, r.deleted_at, firm))
      window every as (partition by r.id),
             ties as (partition by r.id, r.revision)
      order by r.id, r.revision desc nulls last, r.observed_at desc nulls last, r.content_hash desc nulls last
      on conflict (id) do update set
        tenant_id = excluded.tenant_id,
        user_id = excluded.user_id,
        role = excluded.role,
        permissions = excluded.permissions,
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
    select array_agg(changed.id) into turn from changed;
    written := written || turn;
  end loop;
  return written;
end
$$;
