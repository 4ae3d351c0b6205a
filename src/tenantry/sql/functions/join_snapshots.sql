-- Two sets of snapshots as one.
create or replace function tenantry.join_snapshots(a tenantry.snapshots, b tenantry.snapshots)
returns tenantry.snapshots language plpgsql immutable as $$
begin
  if a is not distinct from null then
    return b;
  elsif b is not distinct from null then
    return a;
  end if;
  a.tenants := a.tenants || b.tenants;
  a.users := a.users || b.users;
  a.memberships := a.memberships || b.memberships;
  a.invitations := a.invitations || b.invitations;
  a.domains := a.domains || b.domains;
  a.roles := a.roles || b.roles;
  a.permissions := a.permissions || b.permissions;
  a.ended_sessions := a.ended_sessions || b.ended_sessions;
  a.firm := a.firm or b.firm;
  a.alone := a.alone or b.alone;
  return a;
end
$$;
