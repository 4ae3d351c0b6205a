-- Adds to `s` what an object shows of its organization and user. An embedded organization is a full snapshot; it
-- counts as observed when it was last updated, so that every event that repeats it carries the very same snapshot.
-- A mere id makes a stub of revision 0, which outranks nothing.
create or replace function tenantry.read_parents(s tenantry.snapshots, object jsonb, seen_at timestamptz)
returns tenantry.snapshots language plpgsql stable as $$
declare
  org_id  constant text := tenantry.organization_of(object);
  user_id constant text := tenantry.user_of(object);
  tenant  tenantry.tenants;
  person  tenantry.users;
begin
  if tenantry.clerk_text(object -> 'organization', 'id') is not null then
    tenant := tenantry.read_tenant(object -> 'organization', null, seen_at);
    tenant.observed_at := to_timestamp(tenant.revision / 1000.0);
    s.tenants := s.tenants || tenant;
  elsif org_id is not null then
    tenant.id := tenantry.tenant_id_of(org_id);
    tenant.clerk_org_id := org_id;
    s.tenants := s.tenants || tenant;
  end if;
  if user_id is not null then
    person.id := user_id;
    s.users := s.users || person;
  end if;
  return s;
end
$$;
