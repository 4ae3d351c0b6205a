-- Clerk's User object as a row of `users`. Sign-in times and counters are not content.
create or replace function tenantry.read_user(object jsonb, observed_at timestamptz)
returns tenantry.users language plpgsql stable as $$
declare
  u tenantry.users;
begin
  u.id := tenantry.clerk_text(object, 'id');
  u.first_name := tenantry.clerk_text(object, 'first_name');
  u.last_name := tenantry.clerk_text(object, 'last_name');
  u.username := tenantry.clerk_text(object, 'username');
  if jsonb_typeof(object -> 'email_addresses') = 'array' then
    select tenantry.clerk_text(address, 'email_address') into u.primary_email
    from jsonb_array_elements(object -> 'email_addresses') as address
    where address ->> 'id' = object ->> 'primary_email_address_id'
    limit 1;
  end if;
  u.image_url := tenantry.clerk_text(object, 'image_url');
  u.external_id := tenantry.clerk_text(object, 'external_id');
  u.banned := coalesce(object -> 'banned' = 'true', false);
  u.public_metadata := tenantry.clerk_object(object, 'public_metadata');
  u.created_at := tenantry.clerk_time(object -> 'created_at');
  u.revision := tenantry.clerk_revision(object);
  u.observed_at := observed_at;
  u.content_hash := hashtextextended(jsonb_build_array(
    u.first_name, u.last_name, u.username, u.primary_email, u.image_url, u.external_id, u.banned, u.public_metadata)::text, 0);
  u.last_seen := observed_at;
  return u;
end
$$;
