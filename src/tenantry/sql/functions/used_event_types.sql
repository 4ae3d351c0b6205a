-- The types of events that the mirror uses, as kind_of_event knows them: those to be ticked in Clerk's dashboard.
create or replace function tenantry.used_event_types()
returns setof text language sql immutable parallel safe as $$
  select subject || '.' || verb
  from unnest(array['user', 'organization', 'organizationMembership', 'organizationInvitation', 'organizationDomain', 'role', 'permission', 'session'])
         with ordinality as s(subject, subject_order),
       unnest(array['created', 'updated', 'deleted', 'accepted', 'revoked', 'ended', 'removed']) with ordinality as v(verb, verb_order)
  where tenantry.kind_of_event(subject || '.' || verb) is not null
  order by subject_order, verb_order
$$;
