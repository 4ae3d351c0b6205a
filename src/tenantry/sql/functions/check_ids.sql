-- Refuses (TY010) ids and keys too long to be Clerk's: an index could not hold them, and merging would fail for the
-- whole batch. Nulls pass.
create or replace function tenantry.check_ids(variadic ids text[])
returns void language plpgsql as $$
declare
  id text;
begin
  foreach id in array ids loop
    if length(id) > 255 then
      perform tenantry.raise_error('TY010', 'an id or key has more than 255 characters');
    end if;
  end loop;
end
$$;
