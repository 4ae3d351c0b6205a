-- Merges snapshots of memberships, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order. Known ids go before
-- new ones: who re-joined between two listings has left, then joined, as the triggers see it.
create or replace function tenantry.merge_memberships(rows tenantry.tenant_memberships[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  known   tenantry.tenant_memberships[];
  new     tenantry.tenant_memberships[];
  news    tenantry.tenant_memberships[];
  written text[];
begin
  select array_agg(r) filter (where k.id is not null), array_agg(r) filter (where k.id is null), array_agg(distinct r.id)
  into known, new, written
  from unnest(rows) as r left join tenantry.tenant_memberships as k on k.id = r.id
  where k.id is null or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);

  for number in 1 .. 2 loop
    news := case number when 1 then known else new end;
    continue when news is null;
    insert into tenantry.tenant_memberships (
      id, tenant_id, user_id, role, permissions, public_metadata, created_at,
      revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
    select
      r.id, r.tenant_id, r.user_id, r.role, r.permissions,
      case when r.public_metadata <> '{}' and exists (select from tenantry.erased as e where e.id = r.user_id) then null else r.public_metadata end,
      r.created_at,
      coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
      r.last_seen, r.last_absent, r.deleted_at
    from unnest(tenantry.fold_snapshots(news, null::tenantry.tenant_memberships, null::tenantry.tenant_memberships)) as r
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
      deleted_at = excluded.deleted_at;
  end loop;
  return written;
end
$$;
