-- Of two memberships of one user in one tenant the current one; null is none.
create or replace function tenantry.newer_membership(a tenantry.tenant_memberships, b tenantry.tenant_memberships)
returns tenantry.tenant_memberships language plpgsql immutable as $$
begin
  if a.id is null or (coalesce(a.created_at, '-infinity'), a.id) < (coalesce(b.created_at, '-infinity'), b.id) then
    return b;
  end if;
  return a;
end
$$;
