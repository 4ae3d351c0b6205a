-- Waits for what is being merged about a tenant, and holds up what is to be, until the transaction ends: the lock that
-- merge_snapshots takes on a tenant that begins or ends.
create or replace function tenantry.lock_tenant(tenant_id uuid)
returns void language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('tenantry.merge'), hashtext('tenant:' || tenant_id) & 1023);
end
$$;
