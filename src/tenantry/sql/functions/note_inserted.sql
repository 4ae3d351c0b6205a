-- AFTER INSERT, per statement: an object that was not in the mirror and is live has been created. The trigger's
-- argument is the word the feed has for it.
create or replace function tenantry.note_inserted()
returns trigger language plpgsql as $$
declare
  subject    constant text := tg_argv[0];
  deliveries constant jsonb := tenantry.current_deliveries();
  cause      constant text := tenantry.current_cause();
begin
  insert into tenantry.changes (kind, object_id, tenant_id, user_id, after, cause, message_id)
  select
    subject || '.' || case when shown ->> 'status' in ('accepted', 'revoked') then shown ->> 'status' else 'created' end,
    named.object_id,
    case subject when 'tenant' then (shown ->> 'id')::uuid else (shown ->> 'tenant_id')::uuid end,
    case subject when 'user' then named.object_id else shown ->> 'user_id' end,
    tenantry.describe(subject, shown), cause, deliveries ->> named.object_id
  from (
    select shown, coalesce(shown ->> 'clerk_org_id', shown ->> 'clerk_user_id', shown ->> 'id') as object_id
    from (select to_jsonb(n) as shown from new_rows as n where n.ended_at is null offset 0) as live  -- made once a row
    offset 0
  ) as named
  order by shown ->> 'id';
  return null;
end
$$;
