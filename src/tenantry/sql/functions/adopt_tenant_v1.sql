-- Our tenant of a Clerk id, for `tenantry adopt` and the triggers it makes: an organization's that the mirror knows, or
-- that of a user's personal account, which is made where it is not there yet. Null where there is none.
--
-- Who may call: tenantry_app. Locks: the personal account's row, where it is made.
create or replace function tenantry.adopt_tenant_v1(clerk_id text)
returns uuid language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  instance constant text := tenantry.bound_instance();
  found_id uuid := (select t.id from tenantry.tenants as t where t.clerk_org_id = clerk_id);
begin
  if found_id is null and clerk_id like 'user\_%' and instance is not null then
    found_id := (select t.id from tenantry.tenants as t where t.clerk_user_id = clerk_id);
    if found_id is null then
      insert into tenantry.tenants (id, clerk_user_id) values (tenantry.derive_tenant_id(instance, clerk_id), clerk_id)
      on conflict do nothing;
      found_id := tenantry.derive_tenant_id(instance, clerk_id);
    end if;
  end if;
  return found_id;
end
$$;
