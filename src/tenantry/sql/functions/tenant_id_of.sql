-- Our id of a Clerk organization: its row's, or the one its row will get. plpgsql, not SQL: a SQL function that reads
-- a table is planned again in every transaction.
create or replace function tenantry.tenant_id_of(org_id text)
returns uuid language plpgsql stable as $$
begin
  return coalesce(
    (select t.id from tenantry.tenants t where t.clerk_org_id = org_id),
    tenantry.derive_tenant_id(tenantry.bound_instance(), org_id));
end
$$;
