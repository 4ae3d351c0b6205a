-- A time of Clerk's JSON: milliseconds, or seconds where the number is small enough to be only that
-- (Clerk's documents and examples use both). Anything that is not a number is null.
create or replace function tenantry.clerk_time(value jsonb)
returns timestamptz language plpgsql immutable parallel safe as $$
declare
  number numeric;
begin
  if jsonb_typeof(value) = 'number' then
    number := value::numeric;
    return to_timestamp(case when abs(number) < 1e11 then number else number / 1000 end::double precision);
  end if;
  return null;
end
$$;
