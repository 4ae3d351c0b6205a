-- The live organizations, in order of their Clerk ids: {"after": "<id>", "limit": n, at most 1000} -> ["org_1", ...].
-- Who may call: tenantry_app.
create or replace function tenantry.list_organizations_v1(options jsonb default '{}')
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(page.clerk_org_id), '[]') from (
      select t.clerk_org_id from tenantry.tenants as t
      where t.clerk_org_id > coalesce(tenantry.clerk_text(options, 'after'), '') and t.ended_at is null
      order by t.clerk_org_id limit 1000) as page);
end
$$;
