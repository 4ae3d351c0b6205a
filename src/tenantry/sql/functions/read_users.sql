-- A page of Clerk's User objects as snapshots: what read_objects makes of them, in one statement. What could not be news
-- is left out: it need not be locked. See read_memberships.
create or replace function tenantry.read_users(objects jsonb, observed_at timestamptz)
returns tenantry.snapshots language plpgsql stable as $$
#variable_conflict use_column
declare
  seen_at  constant timestamptz := observed_at;
  readable boolean;
  s        tenantry.snapshots;
begin
  with shown as materialized (
    select
      tenantry.clerk_text(object, 'id') as id,
      tenantry.clerk_text(object, 'first_name') as first_name, tenantry.clerk_text(object, 'last_name') as last_name,
      tenantry.clerk_text(object, 'username') as username, (
        select tenantry.clerk_text(address, 'email_address')
        from jsonb_array_elements(case when jsonb_typeof(object -> 'email_addresses') = 'array' then object -> 'email_addresses' end) as address
        where address ->> 'id' = object ->> 'primary_email_address_id' limit 1
      ) as primary_email,
      tenantry.clerk_text(object, 'image_url') as image_url, tenantry.clerk_text(object, 'external_id') as external_id,
      coalesce(object -> 'banned' = 'true', false) as banned, tenantry.clerk_object(object, 'public_metadata') as public_metadata,
      tenantry.clerk_time(object -> 'created_at') as created_at, tenantry.clerk_time(object -> 'updated_at') as updated_at
    from jsonb_array_elements(objects) as object
  ), read as materialized (
    select shown.*,
      coalesce((extract(epoch from coalesce(updated_at, created_at)) * 1000)::bigint, 0) as revision,
      hashtextextended(jsonb_build_array(
        first_name, last_name, username, primary_email, image_url, external_id, banned, public_metadata)::text, 0) as content_hash
    from shown
  )
  select
    array_agg(row(
      id, first_name, last_name, username, primary_email, image_url, external_id, banned, public_metadata, created_at,
      revision, seen_at, content_hash, seen_at, null, null, null, null)::tenantry.users),
    bool_and(id is not null and length(id) <= 255)
  into s.users, readable
  from read where coalesce((
    select tenantry.is_news(
      k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
      read.revision, seen_at, read.content_hash, seen_at, null, null, false)
    from tenantry.users as k where k.id = read.id), true);
  if not readable then
    return tenantry.read_objects('users', array(select jsonb_array_elements(objects)), seen_at);  -- says what is wrong
  end if;
  return s;
end
$$;
