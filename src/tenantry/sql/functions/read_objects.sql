-- Objects of Clerk, from an event or an API page, as snapshots; `verb` is the event's and names an invitation's status.
-- What an object shows of its parents comes along: see read_parents.
create or replace function tenantry.read_objects(kind text, objects jsonb, observed_at timestamptz, verb text default '')
returns tenantry.snapshots language plpgsql stable as $$
declare
  s      tenantry.snapshots;
  object jsonb;
begin
  for object in select element from jsonb_array_elements(objects) as element loop
    if tenantry.clerk_text(object, 'id') is null then
      perform tenantry.raise_error('TY010', format('an object of %s carries no id', kind));
    end if;
    perform tenantry.check_ids(
      tenantry.clerk_text(object, 'id'), tenantry.organization_of(object), tenantry.user_of(object), tenantry.clerk_text(object, 'key'));
    if kind in ('memberships', 'invitations', 'domains') then
      s := tenantry.read_parents(s, object, observed_at);
    end if;
    case kind
      when 'organizations' then
        s.tenants := s.tenants || tenantry.read_tenant(object, observed_at, observed_at);
      when 'users' then
        s.users := s.users || tenantry.read_user(object, observed_at);
      when 'memberships' then
        if tenantry.organization_of(object) is null or tenantry.user_of(object) is null then
          perform tenantry.raise_error('TY010', format('membership %s names no %s', object ->> 'id',
            case when tenantry.organization_of(object) is null then 'organization' else 'user' end));
        end if;
        s.memberships := s.memberships || tenantry.read_membership(object, observed_at);
      when 'invitations' then
        s.invitations := s.invitations || tenantry.read_invitation(object, observed_at,
          case verb when 'created' then 'pending' when 'accepted' then verb when 'revoked' then verb end);
      when 'domains' then
        s.domains := s.domains || tenantry.read_domain(object, observed_at);
      when 'roles' then
        s.roles := s.roles || tenantry.read_role(object, observed_at);
      when 'permissions' then
        s.permissions := s.permissions || tenantry.read_permission(object, observed_at);
      when 'sessions' then
        -- No accepted token lives longer than a day (`tokens.py` refuses it), and none counts a day after it expired.
        s.ended_sessions := s.ended_sessions || row(
          object ->> 'id', observed_at, greatest(observed_at, now()) + interval '49 hours')::tenantry.ended_sessions;
      else
        perform tenantry.raise_error('TY010', format('unknown kind %L', kind));
    end case;
  end loop;
  return s;
end
$$;
