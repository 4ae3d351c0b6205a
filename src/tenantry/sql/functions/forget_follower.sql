-- Forgets that a table follows. Definer: the registry is the owner's. Who may call: the table's owner.
create or replace function tenantry.forget_follower(relation regclass)
returns void language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  perform tenantry.refuse_stranger(relation);
  delete from tenantry.followers as f where f.relation = forget_follower.relation;
  delete from tenantry.follower_gaps as g where not exists (select from tenantry.followers as f where f.relation = g.relation);
end
$$;
