-- Merges snapshots of organizations, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order. Key columns stay out
-- of the SET list: with them the upsert would wait for every transaction that inserted a row of the tenant.
-- An absence is held against what memberships showed too: their events saw the organization, and did not write it here.
create or replace function tenantry.merge_tenants(rows tenantry.tenants[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.tenants[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.clerk_org_id) into news, written
  from unnest(rows) as r left join tenantry.tenants as k on k.clerk_org_id = r.clerk_org_id
  where k.id is null or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.tenants (
    id, clerk_org_id, name, slug, image_url, public_metadata, role_set_key, created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.clerk_org_id, r.name, r.slug, r.image_url, r.public_metadata, r.role_set_key, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    greatest(r.last_seen, case when r.last_absent is not null then (
      select max(greatest(m.last_seen, m.deleted_at)) from tenantry.tenant_memberships as m where m.tenant_id = r.id) end),
    r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.tenants, null::tenantry.tenants)) as r
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
    deleted_at = excluded.deleted_at;
  return written;
end
$$;
