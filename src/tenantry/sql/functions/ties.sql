-- Live objects of which the mirror knows two contents of one version: Clerk is to be asked which is true.
create or replace function tenantry.ties()
returns table (kind text, id text, org_id text, user_id text) language sql stable as $$
  select 'users', u.id, null, u.id from tenantry.users as u where u.ended_at is null and u.needs_refetch
  union all
  select 'organizations', t.clerk_org_id, t.clerk_org_id, null from tenantry.tenants as t
  where t.ended_at is null and t.needs_refetch and t.clerk_org_id is not null
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
  select 'roles', r.id, null, null from tenantry.roles as r where r.ended_at is null and r.needs_refetch
  union all
  select 'permissions', p.id, null, null from tenantry.permissions as p where p.ended_at is null and p.needs_refetch
$$;
