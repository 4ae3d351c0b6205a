-- Refuses (TY010) an identity without the facts every decision needs. Times are seconds since 1970, not before, and
-- no more than what is still milliseconds of a time that PostgreSQL knows.
create or replace function tenantry.check_identity(identity jsonb)
returns void language plpgsql as $$
declare
  fact text;
begin
  if tenantry.clerk_text(identity, 'user_id') is null then
    perform tenantry.raise_error('TY010', 'the identity lacks user_id');
  end if;
  foreach fact in array array['issued_at', 'expires_at'] loop
    if jsonb_typeof(identity -> fact) is distinct from 'number' or (identity ->> fact)::numeric not between 0 and 1e14 then
      perform tenantry.raise_error('TY010', format('the identity lacks %s (seconds)', fact));
    end if;
  end loop;
end
$$;
