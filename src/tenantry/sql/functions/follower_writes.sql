-- What of an organization can be copied, and into columns of which types.
create or replace function tenantry.follower_writes(out what text, out types regtype[])
returns setof record language sql immutable as $$
  values ('name', '{text,varchar}'::regtype[]), ('slug', '{text,varchar}'), ('image_url', '{text,varchar}'),
    ('created_at', '{timestamptz,timestamp}'), ('updated_at', '{timestamptz,timestamp}'), ('deleted_at', '{timestamptz,timestamp,boolean}')
$$;
