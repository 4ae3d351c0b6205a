-- Binds the database to a Clerk instance at first sight, and refuses (TY018) whatever names another.
-- Locks: the one row of clerk_instance, only when it is made.
create or replace function tenantry.bind_instance(claimed text)
returns void language plpgsql as $$
declare
  bound text := tenantry.bound_instance();
begin
  if claimed is null then
    return;
  end if;
  if bound is null then
    insert into tenantry.clerk_instance (instance_id) values (claimed) on conflict do nothing;
    bound := tenantry.bound_instance();
  end if;
  if bound <> claimed then
    perform tenantry.raise_error('TY018', format('it names %s, this database mirrors %s', claimed, bound));
  end if;
end
$$;
