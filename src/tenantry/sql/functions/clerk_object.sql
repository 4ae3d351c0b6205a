-- The object under `key`; {} where it is absent, null or something else (Clerk sends both for empty metadata).
create or replace function tenantry.clerk_object(object jsonb, key text)
returns jsonb language sql immutable parallel safe as $$
  select case when jsonb_typeof(object -> key) = 'object' then object -> key else '{}' end
$$;
