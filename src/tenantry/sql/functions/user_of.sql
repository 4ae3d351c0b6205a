-- The id of the user a membership belongs to; Clerk has it in `public_user_data` alone.
create or replace function tenantry.user_of(object jsonb)
returns text language plpgsql immutable parallel safe as $$
declare
  id text := tenantry.clerk_text(object -> 'public_user_data', 'user_id');
begin
  if id is not null then
    return id;
  end if;
  return tenantry.clerk_text(object, 'user_id');
end
$$;
