-- AFTER INSERT, per statement: an object that was not in the mirror and is live has been created. The trigger's
-- argument is the word the feed has for it.
create or replace function tenantry.note_inserted()
returns trigger language plpgsql as $$
declare
  told       tenantry.changes[] := '{}';
  subject    constant text := tg_argv[0];
  deliveries constant jsonb := tenantry.current_deliveries();
  cause      constant text := tenantry.current_cause();
  shown      jsonb;
  object_id  text;
begin
  for shown in select to_jsonb(n) from new_rows as n where n.ended_at is null order by n.id loop
    object_id := coalesce(shown ->> 'clerk_org_id', shown ->> 'clerk_user_id', shown ->> 'id');
    told := told || row(null, null,
      subject || '.' || case when shown ->> 'status' in ('accepted', 'revoked') then shown ->> 'status' else 'created' end,
      object_id,
      case subject when 'tenant' then (shown ->> 'id')::uuid else (shown ->> 'tenant_id')::uuid end,
      case subject when 'user' then object_id else shown ->> 'user_id' end,
      null, tenantry.describe(subject, shown), cause, deliveries ->> object_id, null)::tenantry.changes;
  end loop;
  if cardinality(told) > 0 then
    insert into tenantry.changes (kind, object_id, tenant_id, user_id, before, after, cause, message_id)
    select c.kind, c.object_id, c.tenant_id, c.user_id, c.before, c.after, c.cause, c.message_id from unnest(told) as c;
  end if;
  return null;
end
$$;
