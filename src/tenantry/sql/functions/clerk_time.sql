-- A time of Clerk's JSON: milliseconds, or seconds where the number is small enough to be only that
-- (Clerk's documents and examples use both). Anything that is not a number is null.
create or replace function tenantry.clerk_time(value jsonb)
returns timestamptz language sql immutable parallel safe as $$
  select case when jsonb_typeof(value) = 'number' then
    to_timestamp(case when abs(value::numeric) < 1e11 then value::numeric else value::numeric / 1000 end::double precision)
  end
$$;
