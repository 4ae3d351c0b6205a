-- The id of the user a membership belongs to; Clerk has it in `public_user_data` alone.
create or replace function tenantry.user_of(object jsonb)
returns text language sql immutable parallel safe as $$
  select coalesce(tenantry.clerk_text(object -> 'public_user_data', 'user_id'), tenantry.clerk_text(object, 'user_id'))
$$;
