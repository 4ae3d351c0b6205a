-- The id of the organization an object belongs to: embedded, named, or in either place Clerk puts
-- `public_organization_data`.
create or replace function tenantry.organization_of(object jsonb)
returns text language plpgsql immutable parallel safe as $$
declare
  id text := tenantry.clerk_text(object -> 'organization', 'id');
begin
  if id is not null then
    return id;
  end if;
  return coalesce(
    tenantry.clerk_text(object, 'organization_id'),
    tenantry.clerk_text(object -> 'public_organization_data', 'id'),
    tenantry.clerk_text(object #> '{data,public_organization_data}', 'id'));
end
$$;
