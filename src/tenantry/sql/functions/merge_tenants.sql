-- Merges snapshots of organizations, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order. Key columns stay out
-- of the SET list: with them the upsert would wait for every transaction that inserted a row of the tenant.
-- An absence is held against what memberships showed too: their events saw the organization, and did not write it here.
create or replace function tenantry.merge_tenants(rows tenantry.tenants[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  written text[];
begin
  with changed as (
    insert into tenantry.tenants as t (
      id, clerk_org_id, name, slug, image_url, public_metadata, role_set_key, created_at,
      revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
    select distinct on (r.clerk_org_id)
      r.id, r.clerk_org_id, r.name, r.slug, r.image_url, r.public_metadata, r.role_set_key, r.created_at,
      coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
      coalesce(r.revision > 0 and min(r.content_hash) over ties <> max(r.content_hash) over ties, false),
      greatest(max(r.last_seen) over every, case when r.last_absent is not null then (
        select max(greatest(m.last_seen, m.deleted_at)) from tenantry.tenant_memberships as m where m.tenant_id = r.id) end),
      max(r.last_absent) over every, max(r.deleted_at) over every
    from unnest(rows) as r
    left join tenantry.tenants as k on k.clerk_org_id = r.clerk_org_id
    where k.clerk_org_id is null or tenantry.is_news(
      k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
      coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
      r.last_seen, r.last_absent, r.deleted_at, firm)
    window every as (partition by r.clerk_org_id),
           ties as (partition by r.clerk_org_id, r.revision)
    order by r.clerk_org_id, r.revision desc nulls last, r.observed_at desc nulls last, r.content_hash desc nulls last
    on conflict (clerk_org_id) do update set
      name = excluded.name,
      slug = excluded.slug,
      image_url = excluded.image_url,
      public_metadata = excluded.public_metadata,
      role_set_key = excluded.role_set_key,
      created_at = excluded.created_at,
      revision = excluded.revision,
      observed_at = excluded.observed_at,
      content_hash = excluded.content_hash,
      needs_refetch = excluded.needs_refetch,
      last_seen = excluded.last_seen,
      last_absent = excluded.last_absent,
      deleted_at = excluded.deleted_at
    returning t.clerk_org_id
  )
  select coalesce(array_agg(changed.clerk_org_id), '{}') into written from changed;
  return written;
end
$$;
