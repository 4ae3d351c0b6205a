-- The strings of the array under `key`, sorted; null where there is no array.
create or replace function tenantry.clerk_texts(object jsonb, key text)
returns text[] language plpgsql immutable parallel safe as $$
begin
  if jsonb_typeof(object -> key) = 'array' then
    return array(
      select distinct element #>> '{}' from jsonb_array_elements(object -> key) as element
      where jsonb_typeof(element) = 'string' order by 1);
  end if;
  return null;
end
$$;
