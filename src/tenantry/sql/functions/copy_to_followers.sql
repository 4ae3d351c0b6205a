-- Has every table that follows copy these organizations, whose rows the caller has locked.
create or replace function tenantry.copy_to_followers(organizations tenantry.tenants[])
returns void language plpgsql as $$
declare
  follower tenantry.followers;
begin
  for follower in
    select f.* from tenantry.followers as f join pg_class as c on c.oid = f.relation order by f.relation
  loop
    perform tenantry.copy_to_follower(follower, organizations);
  end loop;
end
$$;
