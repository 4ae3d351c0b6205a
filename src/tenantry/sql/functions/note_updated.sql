-- AFTER UPDATE, per statement: what ended, came back, or shows other content while live.
create or replace function tenantry.note_updated()
returns trigger language plpgsql as $$
declare
  subject    constant text := tg_argv[0];
  deliveries jsonb;
begin
  if not exists (select from new_rows) then
    return null;
  end if;
  deliveries := tenantry.current_deliveries();
  insert into tenantry.changes (kind, object_id, tenant_id, user_id, before, after, cause, message_id)
  select
    subject || '.' || case
      when was_live and not is_live then 'deleted'
      when is_live and not was_live then 'created'
      when is_now ->> 'status' is distinct from was ->> 'status' and is_now ->> 'status' in ('accepted', 'revoked') then is_now ->> 'status'
      else 'updated'
    end,
    object_id,
    case subject when 'tenant' then (is_now ->> 'id')::uuid else (is_now ->> 'tenant_id')::uuid end,
    case subject when 'user' then object_id else is_now ->> 'user_id' end,
    case when was_live then tenantry.describe(subject, was) end,
    case when is_live then tenantry.describe(subject, is_now) end,
    tenantry.current_cause(), deliveries ->> object_id
  from (
    select to_jsonb(o) as was, to_jsonb(n) as is_now, o.ended_at is null as was_live, n.ended_at is null as is_live,
      o.content_hash <> n.content_hash as differs
    from new_rows as n join old_rows as o on o.id = n.id
  ) as updated,
    lateral (select coalesce(is_now ->> 'clerk_org_id', is_now ->> 'clerk_user_id', is_now ->> 'id') as object_id) as named
  where was_live <> is_live or (is_live and differs)
  order by object_id;
  return null;
end
$$;
