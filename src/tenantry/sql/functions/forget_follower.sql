-- Forgets that a table follows. Definer: the registry is the owner's. Who may call: tenantry_app.
create or replace function tenantry.forget_follower(relation regclass)
returns void language sql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
  delete from tenantry.followers as f where f.relation = forget_follower.relation;
$$;
