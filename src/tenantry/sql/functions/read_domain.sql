-- Clerk's OrganizationDomain object as a row of `domains`.
create or replace function tenantry.read_domain(object jsonb, tenant_id uuid, observed_at timestamptz)
returns tenantry.domains language plpgsql stable as $$
declare
  d tenantry.domains;
begin
  d.id := tenantry.clerk_text(object, 'id');
  d.tenant_id := tenant_id;
  d.name := tenantry.clerk_text(object, 'name');
  d.enrollment_mode := tenantry.clerk_text(object, 'enrollment_mode');
  -- `verification` is the older name of the ownership's; events carry either.
  d.verified := coalesce(object #>> '{ownership_verification,status}', object #>> '{verification,status}') = 'verified';
  d.created_at := tenantry.clerk_time(object -> 'created_at');
  d.revision := tenantry.clerk_revision(object);
  d.observed_at := observed_at;
  d.content_hash := hashtextextended(jsonb_build_array(d.name, d.enrollment_mode, d.verified)::text, 0);
  d.last_seen := observed_at;
  return d;
end
$$;
