-- Live objects of which the mirror knows two contents of one version (a tie), or that they exist and no more (a stub):
-- Clerk is to be asked. [{"kind", "id", "org_id", "user_id"}, ...], at most 1000, none of those in `asked`.
-- Who may call: tenantry_app.
create or replace function tenantry.list_doubts_v1(asked text[] default '{}', org_id text default null)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
begin
  return (
    select coalesce(jsonb_agg(to_jsonb(found)), '[]') from (select * from (
      select * from tenantry.ties()
      union all
      select 'users', u.id, null, u.id from tenantry.users as u where u.ended_at is null and not u.needs_refetch and u.revision = 0
      union all
      select 'organizations', t.clerk_org_id, t.clerk_org_id, null from tenantry.tenants as t
      where t.ended_at is null and not t.needs_refetch and t.revision = 0 and t.clerk_org_id is not null
    ) as doubt
    where doubt.id <> all (asked) and (list_doubts_v1.org_id is null or doubt.org_id = list_doubts_v1.org_id)
    limit 1000) as found);
end
$$;
