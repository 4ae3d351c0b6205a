-- Writes what a statement changed about who is a member: one row for each (tenant, user) whose current membership, the
-- newest one, is another or differs. `gone` and `come`: the statement's rows before and after. A pair with an ended
-- tenant or user has no members, whatever its memberships say.
create or replace function tenantry.note_member_changes(gone tenantry.tenant_memberships[], come tenantry.tenant_memberships[])
returns void language plpgsql as $$
declare
  deliveries constant jsonb := tenantry.current_deliveries();
begin
  insert into tenantry.changes (kind, object_id, tenant_id, user_id, before, after, cause, message_id)
  select
    case when not was_live then 'member.joined' when not is_live then 'member.left'
         when was.role is distinct from now.role then 'member.role_changed' else 'member.updated' end,
    now.id, pair.tenant_id, pair.user_id,
    case when was_live then tenantry.describe_member(was) end,
    case when is_live then tenantry.describe_member(now) end,
    tenantry.current_cause(), deliveries ->> now.id
  from (select distinct c.tenant_id, c.user_id from unnest(come) as c where c.tenant_id is not null and c.user_id is not null) as pair
  join tenantry.tenants as t on t.id = pair.tenant_id and t.ended_at is null
  join tenantry.users as u on u.id = pair.user_id and u.ended_at is null
  cross join lateral (
    select * from tenantry.tenant_memberships as m
    where m.tenant_id = pair.tenant_id and m.user_id = pair.user_id
    order by m.created_at desc nulls last, m.id desc limit 1
  ) as now
  left join lateral (
    select * from (
      select * from unnest(gone) as g where g.tenant_id = pair.tenant_id and g.user_id = pair.user_id
      union all
      select * from tenantry.tenant_memberships as k
      where k.tenant_id = pair.tenant_id and k.user_id = pair.user_id and k.id <> all (array(select c.id from unnest(come) as c))
    ) as m
    order by m.created_at desc nulls last, m.id desc limit 1
  ) as was on true
  cross join lateral (select now.ended_at is null as is_live, was.id is not null and was.ended_at is null as was_live) as life
  where was_live <> is_live
     or (is_live and was_live and (was.role, was.permissions, was.public_metadata) is distinct from (now.role, now.permissions, now.public_metadata))
  order by pair.tenant_id, pair.user_id;
end
$$;
