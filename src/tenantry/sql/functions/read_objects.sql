-- Objects of Clerk, from an event or an API page, as snapshots; `verb` is the event's and names an invitation's status.
-- What an object shows of its organization and user comes along: a mere id makes a stub of revision 0, which outranks
-- nothing.
create or replace function tenantry.read_objects(kind text, objects jsonb[], observed_at timestamptz, verb text default '')
returns tenantry.snapshots language plpgsql stable as $$
declare
  s       tenantry.snapshots;
  object  jsonb;
  id      text;
  org_id  text;
  user_id text;
  tenant  tenantry.tenants;
  person  tenantry.users;
begin
  foreach object in array objects loop
    id := tenantry.clerk_text(object, 'id');
    org_id := tenantry.organization_of(object);
    user_id := tenantry.user_of(object);
    if id is null then
      perform tenantry.raise_error('TY010', format('an object of %s carries no id', kind));
    end if;
    if greatest(length(id), length(org_id), length(user_id), length(object ->> 'key')) > 255 then
      perform tenantry.check_ids(id, org_id, user_id, tenantry.clerk_text(object, 'key'));
    end if;
    if kind in ('memberships', 'invitations', 'domains') then
      tenant := null;
      if org_id is not null then
        tenant := tenantry.read_parent(object -> 'organization', org_id, observed_at);
        s.tenants := s.tenants || tenant;
      end if;
      if user_id is not null then
        person.id := user_id;
        s.users := s.users || person;
      end if;
    end if;
    case kind
      when 'organizations' then
        s.tenants := s.tenants || tenantry.read_tenant(object, observed_at, observed_at);
      when 'users' then
        s.users := s.users || tenantry.read_user(object, observed_at);
      when 'memberships' then
        if org_id is null or user_id is null then
          perform tenantry.raise_error('TY010', format('membership %s names no %s', id, case when org_id is null then 'organization' else 'user' end));
        end if;
        s.memberships := s.memberships || tenantry.read_membership(object, tenant.id, user_id, observed_at);
      when 'invitations' then
        s.invitations := s.invitations || tenantry.read_invitation(object, tenant.id, observed_at,
          case verb when 'created' then 'pending' when 'accepted' then verb when 'revoked' then verb end);
      when 'domains' then
        s.domains := s.domains || tenantry.read_domain(object, tenant.id, observed_at);
      when 'roles' then
        s.roles := s.roles || tenantry.read_role(object, observed_at);
      when 'permissions' then
        s.permissions := s.permissions || tenantry.read_permission(object, observed_at);
      when 'sessions' then
        -- No accepted token lives longer than a day (`tokens.py` refuses it), and none counts a day after it expired.
        s.ended_sessions := s.ended_sessions || row(
          id, observed_at, greatest(observed_at, now()) + interval '49 hours')::tenantry.ended_sessions;
      else
        perform tenantry.raise_error('TY010', format('unknown kind %L', kind));
    end case;
  end loop;
  return s;
end
$$;
