-- The tenant of this transaction; TY001 without one. For policies, defaults and queries. No SET clause and plain
-- plpgsql: as an index condition it runs once a scan, and policies wrap it in a scalar subselect besides.
create or replace function tenantry.current_tenant_id()
returns uuid language plpgsql stable parallel safe as $$
declare
  id constant text := pg_catalog.current_setting('tenantry.tenant_id', true);
begin
  if id is null or id operator(pg_catalog.=) '' then  -- '' is what a local setting leaves behind
    perform tenantry.raise_error('TY001');
  end if;
  return id::pg_catalog.uuid;
end
$$;
