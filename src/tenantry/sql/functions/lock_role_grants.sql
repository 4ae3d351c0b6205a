-- Trigger, before a statement on what role_grants is made of: two that change it at once take turns, and each takes its
-- turn before it locks a row.
create or replace function tenantry.lock_role_grants()
returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock('tenantry.role_grants'::regclass::oid::integer, 0);
  return null;
end
$$;
