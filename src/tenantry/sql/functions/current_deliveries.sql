-- Which delivery of this transaction told about which object, or {}: see state_cause.
create or replace function tenantry.current_deliveries()
returns jsonb language sql stable as $$
  select coalesce(nullif(current_setting('tenantry.deliveries', true), ''), '{}')::jsonb
$$;
