-- An event without the private metadata of its object and of the organization embedded in it; whatever it is, no error.
create or replace function tenantry.without_private_metadata(event jsonb)
returns jsonb language sql immutable parallel safe as $$
  select case
    when jsonb_typeof(event) <> 'object' or jsonb_typeof(event -> 'data') is distinct from 'object' then event
    when jsonb_typeof(event #> '{data,organization}') = 'object'
    then event #- '{data,private_metadata}' #- '{data,unsafe_metadata}' #- '{data,organization,private_metadata}'
    else event #- '{data,private_metadata}' #- '{data,unsafe_metadata}'
  end
$$;
