-- Whether a string in this JSON, however deep, has what the pattern looks for (see pattern_of). Keys do not count.
create or replace function tenantry.tells_of(told jsonb, pattern text)
returns boolean language sql immutable as $$
  select exists (
    select from jsonb_path_query(told, 'strict $.**') as part
    where jsonb_typeof(part) = 'string' and part #>> '{}' ~* pattern)
$$;
