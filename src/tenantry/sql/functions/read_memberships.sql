-- A page of Clerk's OrganizationMembership objects as snapshots: what read_objects makes of them, in one statement. What
-- many members share is read once, and what could not be news is left out, parents too: it need not be locked. Tables
-- are looked up by scalar subqueries: a join planned while they were empty would read them whole ever after.
create or replace function tenantry.read_memberships(objects jsonb, observed_at timestamptz)
returns tenantry.snapshots language plpgsql stable set enable_hashjoin = on as $$
#variable_conflict use_column
declare
  seen_at  constant timestamptz := observed_at;
  readable boolean;
  s        tenantry.snapshots;
begin
  with shown as materialized (
    select
      tenantry.clerk_text(object, 'id') as id, object -> 'organization' as organization,
      coalesce(tenantry.clerk_text(object -> 'organization', 'id'), tenantry.organization_of(object)) as org_id,
      coalesce(tenantry.clerk_text(object -> 'public_user_data', 'user_id'), tenantry.clerk_text(object, 'user_id')) as user_id,
      tenantry.role_key(tenantry.clerk_text(object, 'role')) as role, coalesce(object -> 'permissions', 'null') as listed,
      tenantry.clerk_object(object, 'public_metadata') as public_metadata,
      object -> 'created_at' as made, nullif(object -> 'updated_at', object -> 'created_at') as updated
    from jsonb_array_elements(objects) as object
  ), parents as materialized (
    select org_id, known_id, case when known_id is null or organization is not null then tenantry.read_parent(organization, org_id, seen_at) end as tenant
    from (
      select org_id, organization, (select t.id from tenantry.tenants as t where t.clerk_org_id = org_id) as known_id
      from (select distinct org_id, organization from shown where org_id is not null) as parent
      offset 0
    ) as looked_up
  ), places as materialized (
    select distinct on (org_id) org_id, coalesce(known_id, (tenant).id) as tenant_id from parents
  ), held as materialized (
    select listed, coalesce(tenantry.clerk_texts(jsonb_build_object('permissions', listed), 'permissions'), '{}') as permissions
    from (select distinct listed from shown) as lists
  ), timed as materialized (
    select m.*, tenantry.clerk_time(made) as created_at, tenantry.clerk_time(updated) as updated_at from shown as m
  ), read as materialized (
    select id, tenant_id, user_id, role, permissions, public_metadata, created_at,
      coalesce((extract(epoch from coalesce(updated_at, created_at)) * 1000)::bigint, 0) as revision,
      hashtextextended(jsonb_build_array(role, permissions, public_metadata)::text, 0) as content_hash
    from timed join places using (org_id) join held using (listed)
  )
  select
    (select array_agg(tenant) from parents where (tenant).id is not null),
    (select array_agg(jsonb_populate_record(null::tenantry.users, jsonb_build_object('id', user_id)))
     from (select distinct user_id from shown where user_id is not null) as people
     where (select u.id from tenantry.users as u where u.id = user_id) is null),
    (select array_agg(row(
       id, tenant_id, user_id, role, permissions, public_metadata, created_at, revision, seen_at, content_hash,
       seen_at, null, null, null, null)::tenantry.tenant_memberships)
     from read where coalesce((
       select tenantry.is_news(
         k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
         read.revision, seen_at, read.content_hash, seen_at, null, null, false)
       from tenantry.tenant_memberships as k where k.id = read.id), true)),
    (select bool_and(id is not null and org_id is not null and user_id is not null
       and greatest(length(id), length(org_id), length(user_id)) <= 255) from shown)
  into s.tenants, s.users, s.memberships, readable;
  if not readable then
    return tenantry.read_objects('memberships', array(select jsonb_array_elements(objects)), seen_at);  -- says what is wrong
  end if;
  return s;
end
$$;
