-- The organizations whose live members in the mirror are not as many as Clerk says: {"org_1": 5, ...} -> ["org_1", ...].
-- A member swapped for another, or a changed role, does not show. Who may call: tenantry_app.
create or replace function tenantry.find_miscounted_v1(members jsonb)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(told.org_id order by told.org_id), '[]')
    from jsonb_each(members) as told(org_id, members)
    where jsonb_typeof(told.members) = 'number' and told.members::numeric <> (
      select count(*) from tenantry.members as m join tenantry.tenants as t on t.id = m.tenant_id
      where t.clerk_org_id = told.org_id));
end
$$;
