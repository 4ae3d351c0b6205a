-- An event without the private metadata of its object and of the organization embedded in it, and without the memberships
-- that a user event may list, which carry both and tell the mirror nothing; whatever it is, no error.
-- Each removal writes the event anew, so what is empty stays.
create or replace function tenantry.without_private_metadata(event jsonb)
returns jsonb language plpgsql immutable parallel safe as $$
declare
  object constant jsonb := event -> 'data';
begin
  if jsonb_typeof(object) is distinct from 'object' then
    return event;
  end if;
  if object -> 'private_metadata' <> '{}' then
    event := event #- '{data,private_metadata}';
  end if;
  if object -> 'unsafe_metadata' <> '{}' then
    event := event #- '{data,unsafe_metadata}';
  end if;
  if object ? 'organization_memberships' then
    event := event #- '{data,organization_memberships}';
  end if;
  if jsonb_typeof(object -> 'organization') = 'object' and object #> '{organization,private_metadata}' <> '{}' then
    event := event #- '{data,organization,private_metadata}';
  end if;
  return event;
end
$$;
