-- Drops Tenantry's own policies from a table.
create or replace function tenantry.remove_policies(relation regclass)
returns void language plpgsql as $$
declare
  policy name;
begin
  for policy in select polname from pg_policy where polrelid = relation and polname like 'tenantry\_%' loop
    execute format('drop policy %I on %s', policy, relation);
  end loop;
end
$$;
