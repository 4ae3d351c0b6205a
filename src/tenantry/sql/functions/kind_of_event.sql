-- Which kind of object an event is about, or null for types the mirror does not use.
create or replace function tenantry.kind_of_event(type text)
returns text language sql immutable parallel safe as $$
  select case
    when type in ('user.created', 'user.updated', 'user.deleted') then 'users'
    when type in ('organization.created', 'organization.updated', 'organization.deleted') then 'organizations'
    when type in ('organizationMembership.created', 'organizationMembership.updated', 'organizationMembership.deleted') then 'memberships'
    when type in ('organizationInvitation.created', 'organizationInvitation.accepted', 'organizationInvitation.revoked') then 'invitations'
    when type in ('organizationDomain.created', 'organizationDomain.updated', 'organizationDomain.deleted') then 'domains'
    when type in ('role.created', 'role.updated', 'role.deleted') then 'roles'
    when type in ('permission.created', 'permission.updated', 'permission.deleted') then 'permissions'
    when type in ('session.ended', 'session.removed', 'session.revoked') then 'sessions'
  end
$$;
