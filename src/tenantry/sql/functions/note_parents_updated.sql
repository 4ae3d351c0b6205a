-- AFTER UPDATE of tenants and users, per statement: a member is live when membership, tenant and user all are, so the
-- members of a tenant or user that ended have left, and those of one that came back have joined.
create or replace function tenantry.note_parents_updated()
returns trigger language plpgsql as $$
declare
  parent     constant text := tg_argv[0];
  deliveries jsonb;
begin
  if not exists (select from new_rows as n join old_rows as o on o.id = n.id where (n.ended_at is null) <> (o.ended_at is null)) then
    return null;
  end if;
  deliveries := tenantry.current_deliveries();
  insert into tenantry.changes (kind, object_id, tenant_id, user_id, before, after, cause, message_id)
  select
    case when is_live then 'member.joined' else 'member.left' end, m.id, m.tenant_id, m.user_id,
    case when not is_live then tenantry.describe_member(m) end,
    case when is_live then tenantry.describe_member(m) end,
    tenantry.current_cause(), coalesce(deliveries ->> t.clerk_org_id, deliveries ->> u.id)
  from (select n.id::text as parent_id, n.ended_at is null as is_live from new_rows as n join old_rows as o on o.id = n.id
        where (n.ended_at is null) <> (o.ended_at is null)) as turned
  cross join lateral (
    select * from tenantry.tenant_memberships where parent = 'tenant' and tenant_id = case when parent = 'tenant' then turned.parent_id::uuid end
    union all
    select * from tenantry.tenant_memberships where parent = 'user' and user_id = turned.parent_id
  ) as m
  join tenantry.tenants as t on t.id = m.tenant_id and (parent = 'tenant' or t.ended_at is null)
  join tenantry.users as u on u.id = m.user_id and (parent = 'user' or u.ended_at is null)
  where m.ended_at is null
    and not exists (select from tenantry.tenant_memberships as newer
                    where newer.tenant_id = m.tenant_id and newer.user_id = m.user_id
                      and (coalesce(newer.created_at, '-infinity'), newer.id) > (coalesce(m.created_at, '-infinity'), m.id))
  order by m.id;
  return null;
end
$$;
