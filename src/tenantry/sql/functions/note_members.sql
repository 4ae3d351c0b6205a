-- AFTER INSERT or UPDATE of memberships, per statement: writes what it changed about who is a member, one row for each
-- (tenant, user) whose current membership, the newest one, is another or differs. A pair with an ended tenant or user has
-- no members, whatever its memberships say.
create or replace function tenantry.note_members()
returns trigger language plpgsql as $$
declare
  told       tenantry.changes[] := '{}';
  deliveries constant jsonb := tenantry.current_deliveries();
  cause      constant text := tenantry.current_cause();
  was        tenantry.tenant_memberships;
  now        tenantry.tenant_memberships;
  other      tenantry.tenant_memberships;
  was_live   boolean;
  is_live    boolean;
begin
  if tg_op = 'UPDATE' and not exists (select from new_rows) then  -- an upsert that only inserted
    return null;
  end if;
  if tg_op = 'INSERT' then  -- of nearly every pair it is the only membership: all of those at once
    insert into tenantry.changes (kind, object_id, tenant_id, user_id, after, cause, message_id)
    select 'member.joined', n.id, n.tenant_id, n.user_id, tenantry.describe_member(n), cause, deliveries ->> n.id
    from new_rows as n
    join tenantry.tenants as t on t.id = n.tenant_id and t.ended_at is null
    join tenantry.users as u on u.id = n.user_id and u.ended_at is null
    where n.ended_at is null
      and not exists (select from tenantry.tenant_memberships as k where k.tenant_id = n.tenant_id and k.user_id = n.user_id and k.id <> n.id)
    order by n.tenant_id, n.user_id;
  end if;
  for now in
    select distinct on (n.tenant_id, n.user_id) * from new_rows as n
    where n.tenant_id is not null and n.user_id is not null and (tg_op = 'UPDATE' or exists (
      select from tenantry.tenant_memberships as k where k.tenant_id = n.tenant_id and k.user_id = n.user_id and k.id <> n.id))
    order by n.tenant_id, n.user_id, n.created_at desc nulls last, n.id desc
  loop
    continue when not exists (select from tenantry.tenants as t where t.id = now.tenant_id and t.ended_at is null)
               or not exists (select from tenantry.users as u where u.id = now.user_id and u.ended_at is null);
    select * into other from tenantry.tenant_memberships as k
    where k.tenant_id = now.tenant_id and k.user_id = now.user_id and not exists (select from new_rows as n where n.id = k.id)
    order by k.created_at desc nulls last, k.id desc limit 1;
    was := null;
    if tg_op = 'UPDATE' then
      select * into was from old_rows as o where o.tenant_id = now.tenant_id and o.user_id = now.user_id
      order by o.created_at desc nulls last, o.id desc limit 1;
    end if;
    if other.id is not null then
      was := tenantry.newer_membership(was, other);
      now := tenantry.newer_membership(now, other);
    end if;
    was_live := was.id is not null and was.ended_at is null;
    is_live := now.ended_at is null;
    if was_live <> is_live
       or (is_live and (was.role, was.permissions, was.public_metadata) is distinct from (now.role, now.permissions, now.public_metadata)) then
      told := told || row(null, null,
        case when not was_live then 'member.joined' when not is_live then 'member.left'
             when was.role is distinct from now.role then 'member.role_changed' else 'member.updated' end,
        now.id, now.tenant_id, now.user_id,
        case when was_live then tenantry.describe_member(was) end,
        case when is_live then tenantry.describe_member(now) end,
        cause, deliveries ->> now.id, null)::tenantry.changes;
    end if;
  end loop;
  if cardinality(told) > 0 then
    insert into tenantry.changes (kind, object_id, tenant_id, user_id, before, after, cause, message_id)
    select c.kind, c.object_id, c.tenant_id, c.user_id, c.before, c.after, c.cause, c.message_id from unnest(told) as c;
  end if;
  return null;
end
$$;
