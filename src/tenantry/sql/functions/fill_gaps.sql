-- Copies up to `most` organizations to each table that follows and does not have them as they are: those never tried
-- first, and of the others those tried before a time. Answers how many were copied.
-- Locks: the organizations' rows, passing over those that somebody is changing, who copies them then.
create or replace function tenantry.fill_gaps(most integer, before timestamptz default 'infinity')
returns integer language plpgsql as $$
declare
  copied   integer := 0;
  follower tenantry.followers;
  waiting  uuid[];
  chosen   tenantry.tenants[];
begin
  if not exists (select from tenantry.follower_gaps) then
    return 0;
  end if;
  for follower in
    select f.* from tenantry.followers as f join pg_class as c on c.oid = f.relation order by f.relation
  loop
    waiting := array(
      select g.tenant_id from tenantry.follower_gaps as g
      where g.relation = follower.relation and coalesce(g.at < before, true) order by g.attempts, g.tenant_id limit most);
    chosen := array(select t from tenantry.tenants as t where t.id = any (waiting) order by t.id for no key update skip locked);
    if cardinality(chosen) > 0 then
      copied := copied + tenantry.copy_to_follower(follower, chosen);
    end if;
  end loop;
  return copied;
end
$$;
