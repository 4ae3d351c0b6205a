-- The column that holds Clerk's id of a kind of objects.
create or replace function tenantry.key_of(kind text)
returns name language plpgsql immutable as $$
begin
  return case kind when 'organizations' then 'clerk_org_id' else 'id' end;
end
$$;
