-- What merging snapshots would change about these objects, without merging them: they are merged and taken back.
-- Answers [{"id", "field", "mirror", "clerk", "org_id", "user_id", "changed_at": <ms, Clerk's updated_at>}, ...]; the field
-- `exists` stands for an object that the mirror lacks, or has and should not.
create or replace function tenantry.preview_snapshots(kind text, ids text[], s tenantry.snapshots)
returns jsonb language plpgsql as $$
declare
  before jsonb := tenantry.mirrored_rows(kind, ids);
  after  jsonb;
begin
  begin
    perform tenantry.merge_snapshots(s);
    after := tenantry.mirrored_rows(kind, ids);
    raise exception using errcode = 'TY000';
  exception when sqlstate 'TY000' then null;
  end;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('id', id, 'field', field, 'mirror', was, 'clerk', is_now,
        'org_id', (select t.clerk_org_id from tenantry.tenants as t where t.id::text = shown ->> 'tenant_id'),
        'user_id', shown -> 'user_id', 'changed_at', case when new -> 'ended_at' = 'null' then nullif(shown -> 'revision', '0') end) order by id, field), '[]')
    from unnest(ids) as id
    cross join lateral (select before -> id as old, after -> id as new) as row
    cross join lateral (
      select 'exists' as field, to_jsonb(coalesce(old -> 'ended_at' = 'null', false)) as was, to_jsonb(coalesce(new -> 'ended_at' = 'null', false)) as is_now
      union all
      select key, old -> key, value from jsonb_each(new)
      where old -> 'ended_at' = 'null' and new -> 'ended_at' = 'null' and key <> all (
        '{id,tenant_id,revision,observed_at,content_hash,last_seen,last_absent,deleted_at,needs_refetch,ended_at}')
    ) as fields
    cross join lateral (select coalesce(new, old) as shown) as told
    where was is distinct from is_now);
end
$$;
