-- Keeps everybody off the tenants for the moment in which a partitioned table's foreign key to them joins its partitions'.
-- By itself PostgreSQL would let others read until it drops triggers there, and only then want them gone: a merge that had
-- read tenants, and goes on to write some, would fail of that deadlock at once, however short the lock is waited for.
-- Definer: the tenants are the owner's. Who may call: the table's owner. Locks: tenants (ACCESS EXCLUSIVE).
create or replace function tenantry.hold_tenants(relation regclass)
returns void language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  perform tenantry.refuse_stranger(c.oid) from pg_class as c where c.oid = relation;
  if not found then  -- of a table that is gone nobody has a key to make
    return;
  end if;
  lock table tenantry.tenants in access exclusive mode;
end
$$;
