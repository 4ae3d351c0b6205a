-- Of Clerk's ids of organizations and users, those that the mirror has never seen: ["org_1", ...], in their order.
-- Who may call: tenantry_app.
create or replace function tenantry.list_unknown_ids_v1(ids jsonb)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(asked.id order by asked.id), '[]') from (
      select distinct element as id from jsonb_array_elements_text(ids) as element) as asked
    where not exists (select from tenantry.tenants as t where t.clerk_org_id = asked.id)
      and not exists (select from tenantry.users as u where u.id = asked.id));
end
$$;
