-- An object's version: its updated_at in ms (clerk_time reads both units), else created_at, else 0.
create or replace function tenantry.clerk_revision(object jsonb)
returns bigint language sql stable parallel safe as $$
  select coalesce((extract(epoch from coalesce(tenantry.clerk_time(object -> 'updated_at'), tenantry.clerk_time(object -> 'created_at'))) * 1000)::bigint, 0)
$$;
