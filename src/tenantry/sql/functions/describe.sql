-- A row of the mirror as the feed shows it: its content, without the merge columns; of a user or an
-- invited person, nothing personal.
create or replace function tenantry.describe(subject text, mirrored jsonb)
returns jsonb language sql stable parallel safe as $$
  select case
    when subject = 'user' then jsonb_build_object('banned', mirrored -> 'banned')
    else mirrored - '{revision,observed_at,content_hash,last_seen,last_absent,deleted_at,needs_refetch,ended_at,purged_at,image_url,email_address}'::text[]
  end
$$;
