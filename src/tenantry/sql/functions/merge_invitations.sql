-- Merges snapshots of invitations, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order.
create or replace function tenantry.merge_invitations(rows tenantry.invitations[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.invitations[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.id) into news, written
  from unnest(rows) as r left join tenantry.invitations as k on k.id = r.id
  where k.id is null or (k.tenant_id is null and r.tenant_id is not null) or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.invitations (
    id, tenant_id, email_address, role, status, inviter_id, user_id, public_metadata, expires_at, created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.tenant_id, case when not erased then r.email_address end, r.role, r.status, r.inviter_id, r.user_id,
    case when not erased then r.public_metadata end, r.expires_at, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    r.last_seen, r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.invitations, null::tenantry.invitations)) as r
  cross join lateral (select exists (select from tenantry.erased as e where e.id in (r.id, r.user_id)) as erased) as person
  on conflict (id) do update set
    tenant_id = excluded.tenant_id,
    email_address = excluded.email_address,
    role = excluded.role,
    status = excluded.status,
    inviter_id = excluded.inviter_id,
    user_id = excluded.user_id,
    public_metadata = excluded.public_metadata,
    expires_at = excluded.expires_at,
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
