-- AFTER INSERT or UPDATE of tenants, per statement: has the app's own tables of organizations follow. What fails there
-- fails nothing here: it is noted, and tried again with the next change of any organization.
create or replace function tenantry.follow_tenants()
returns trigger language plpgsql as $$
declare
  changed tenantry.tenants[];
begin
  if not exists (select from tenantry.followers) then
    return null;
  elsif tg_op = 'INSERT' then
    changed := array(select n from new_rows as n where n.clerk_org_id is not null order by n.id);
  else
    changed := array(
      select n from new_rows as n join old_rows as o on o.id = n.id
      where n.clerk_org_id is not null
        and (n.ended_at is null, n.content_hash, n.revision > 0) is distinct from (o.ended_at is null, o.content_hash, o.revision > 0)
      order by n.id);
  end if;
  if cardinality(changed) > 0 then
    perform tenantry.copy_to_followers(changed);
    perform tenantry.fill_gaps(10, before => now());
  end if;
  return null;
end
$$;
