-- Live objects of which the mirror knows two contents of one version (a tie), or that they exist and no more (a stub):
-- Clerk is to be asked. [{"kind", "id", "org_id", "user_id"}, ...], at most 1000, none of those in `asked`.
-- Who may call: tenantry_app.
create or replace function tenantry.list_doubts_v1(asked text[] default '{}', org_id text default null)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
begin
  return (
    select coalesce(jsonb_agg(to_jsonb(found)), '[]') from (select * from (
      select 'users' as kind, u.id, null::text as org_id, u.id as user_id from tenantry.users as u
      where u.ended_at is null and (u.needs_refetch or u.revision = 0) and list_doubts_v1.org_id is null
      union all
      select 'organizations', t.clerk_org_id, t.clerk_org_id, null from tenantry.tenants as t
      where t.ended_at is null and (t.needs_refetch or t.revision = 0) and t.clerk_org_id is not null
      union all
      select 'memberships', m.id, t.clerk_org_id, m.user_id from tenantry.tenant_memberships as m
      join tenantry.tenants as t on t.id = m.tenant_id and t.ended_at is null
      join tenantry.users as u on u.id = m.user_id and u.ended_at is null
      where m.ended_at is null and m.needs_refetch
      union all
      select 'invitations', i.id, t.clerk_org_id, null from tenantry.invitations as i
      join tenantry.tenants as t on t.id = i.tenant_id and t.ended_at is null where i.ended_at is null and i.needs_refetch
      union all
      select 'domains', d.id, t.clerk_org_id, null from tenantry.domains as d
      join tenantry.tenants as t on t.id = d.tenant_id and t.ended_at is null where d.ended_at is null and d.needs_refetch
      union all
      select 'roles', r.id, null, null from tenantry.roles as r where r.ended_at is null and r.needs_refetch and list_doubts_v1.org_id is null
      union all
      select 'permissions', p.id, null, null from tenantry.permissions as p where p.ended_at is null and p.needs_refetch and list_doubts_v1.org_id is null
    ) as doubt
    where doubt.id <> all (asked) and (list_doubts_v1.org_id is null or doubt.org_id = list_doubts_v1.org_id)
    limit 1000) as found);
end
$$;
