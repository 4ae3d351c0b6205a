-- Binds the database to a Clerk instance at first sight, and refuses (TY018) whatever names another.
-- Locks: until it is bound, one transaction after the other, whether or not it names an instance: tenants' ids are
-- derived from it, so of two beside each other one would refer to a tenant by an id that the other one's row has not.
create or replace function tenantry.bind_instance(claimed text)
returns void language plpgsql as $$
declare
  bound text := tenantry.bound_instance();
begin
  if bound is null then
    perform pg_advisory_xact_lock(hashtext('tenantry.instance'), 0);
    if claimed is not null then
      insert into tenantry.clerk_instance (instance_id) values (claimed) on conflict do nothing;
    end if;
    bound := tenantry.bound_instance();
  end if;
  if bound <> claimed then
    perform tenantry.raise_error('TY018', format('it names %s, this database mirrors %s', claimed, bound));
  end if;
end
$$;
