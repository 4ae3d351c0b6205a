-- AFTER UPDATE, per statement: what ended, came back, or shows other content while live.
create or replace function tenantry.note_updated()
returns trigger language plpgsql as $$
declare
  told       tenantry.changes[] := '{}';
  subject    constant text := tg_argv[0];
  deliveries constant jsonb := tenantry.current_deliveries();
  cause      constant text := tenantry.current_cause();
  updated    record;
  was        jsonb;
  is_now     jsonb;
  object_id  text;
begin
  if not exists (select from new_rows) then  -- an upsert that only inserted
    return null;
  end if;
  for updated in
    select to_jsonb(o) as was, to_jsonb(n) as is_now, o.ended_at is null as was_live, n.ended_at is null as is_live
    from new_rows as n join old_rows as o on o.id = n.id
    where (o.ended_at is null) <> (n.ended_at is null) or (n.ended_at is null and o.content_hash <> n.content_hash)
    order by n.id
  loop
    was := updated.was;
    is_now := updated.is_now;
    object_id := coalesce(is_now ->> 'clerk_org_id', is_now ->> 'clerk_user_id', is_now ->> 'id');
    told := told || row(null, null,
      subject || '.' || case
        when not updated.is_live then 'deleted'
        when not updated.was_live then 'created'
        when is_now ->> 'status' is distinct from was ->> 'status' and is_now ->> 'status' in ('accepted', 'revoked') then is_now ->> 'status'
        else 'updated'
      end,
      object_id,
      case subject when 'tenant' then (is_now ->> 'id')::uuid else (is_now ->> 'tenant_id')::uuid end,
      case subject when 'user' then object_id else is_now ->> 'user_id' end,
      case when updated.was_live then tenantry.describe(subject, was) end,
      case when updated.is_live then tenantry.describe(subject, is_now) end,
      cause, deliveries ->> object_id, null)::tenantry.changes;
  end loop;
  if cardinality(told) > 0 then
    insert into tenantry.changes (kind, object_id, tenant_id, user_id, before, after, cause, message_id)
    select c.kind, c.object_id, c.tenant_id, c.user_id, c.before, c.after, c.cause, c.message_id from unnest(told) as c;
  end if;
  return null;
end
$$;
