-- An event without the private metadata of its object and of the organization embedded in it.
create or replace function tenantry.without_private_metadata(event jsonb)
returns jsonb language sql immutable parallel safe as $$
  select event #- '{data,private_metadata}' #- '{data,unsafe_metadata}' #- '{data,organization,private_metadata}'
$$;
