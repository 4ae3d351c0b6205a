-- An object's version: its updated_at in ms (clerk_time reads both units), else created_at, else 0.
create or replace function tenantry.clerk_revision(object jsonb)
returns bigint language plpgsql stable parallel safe as $$
declare
  at timestamptz := tenantry.clerk_time(object -> 'updated_at');
begin
  if at is null then
    at := tenantry.clerk_time(object -> 'created_at');
  end if;
  return coalesce((extract(epoch from at) * 1000)::bigint, 0);
end
$$;
