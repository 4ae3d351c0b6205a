-- The text under `key`, or null where it is absent, null, empty or no string.
create or replace function tenantry.clerk_text(object jsonb, key text)
returns text language sql immutable parallel safe as $$
  select case when jsonb_typeof(object -> key) = 'string' then nullif(object ->> key, '') end
$$;
