-- The same of a dead letter's body: as it came, and as JSON where it is any, which may write letters as `\u0061`.
create or replace function tenantry.body_tells_of(body text, pattern text)
returns boolean language plpgsql immutable as $$
begin
  return body ~* pattern or tenantry.tells_of(tenantry.read_body(body), pattern);
exception when data_exception or program_limit_exceeded then
  return body ~* pattern;
end
$$;
