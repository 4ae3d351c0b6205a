-- The organization an object belongs to. Embedded, it is a full snapshot, which counts as observed when it was last
-- updated, so that every event that repeats it carries the very same one; `seen_at` is when it was shown. Without that
-- (`shown` is null) a stub.
create or replace function tenantry.read_parent(shown jsonb, org_id text, seen_at timestamptz)
returns tenantry.tenants language plpgsql stable as $$
declare
  tenant tenantry.tenants;
begin
  if tenantry.clerk_text(shown, 'id') is null then
    tenant.id := tenantry.tenant_id_of(org_id);
    tenant.clerk_org_id := org_id;
    return tenant;
  end if;
  tenant := tenantry.read_tenant(shown, null, seen_at);
  tenant.observed_at := to_timestamp(tenant.revision / 1000.0);
  return tenant;
end
$$;
