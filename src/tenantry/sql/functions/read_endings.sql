-- Objects known to be gone, as snapshots of revision 0: `final` for deletions by an event, else absences from a
-- complete listing, each confirmed by a request of its own at `gone_at`.
create or replace function tenantry.read_endings(kind text, ids text[], gone_at timestamptz, final boolean)
returns tenantry.snapshots language plpgsql stable as $$
declare
  deleted constant timestamptz := case when final then gone_at end;
  absent  constant timestamptz := case when not final then gone_at end;
  s       tenantry.snapshots;
  gone_id text;
  tenant tenantry.tenants; person tenantry.users; membership tenantry.tenant_memberships;
  invitation tenantry.invitations; domain tenantry.domains; role tenantry.roles; permission tenantry.permissions;
begin
  perform tenantry.check_ids(variadic ids);
  foreach gone_id in array ids loop
    case kind
      when 'organizations' then
        tenant.id := tenantry.tenant_id_of(gone_id);
        tenant.clerk_org_id := gone_id;
        tenant.deleted_at := deleted;
        tenant.last_absent := absent;
        s.tenants := s.tenants || tenant;
        s.alone := not final;
      when 'users' then
        person.id := gone_id;
        person.deleted_at := deleted;
        person.last_absent := absent;
        s.users := s.users || person;
        s.alone := not final;
      when 'memberships' then
        membership.id := gone_id;
        membership.deleted_at := deleted;
        membership.last_absent := absent;
        s.memberships := s.memberships || membership;
        s.alone := true;
      when 'invitations' then
        invitation.id := gone_id;
        invitation.deleted_at := deleted;
        invitation.last_absent := absent;
        s.invitations := s.invitations || invitation;
      when 'domains' then
        domain.id := gone_id;
        domain.deleted_at := deleted;
        domain.last_absent := absent;
        s.domains := s.domains || domain;
      when 'roles' then
        role.id := gone_id;
        role.deleted_at := deleted;
        role.last_absent := absent;
        s.roles := s.roles || role;
      when 'permissions' then
        permission.id := gone_id;
        permission.deleted_at := deleted;
        permission.last_absent := absent;
        s.permissions := s.permissions || permission;
      else
        perform tenantry.raise_error('TY010', format('unknown kind %L', kind));
    end case;
  end loop;
  return s;
end
$$;
