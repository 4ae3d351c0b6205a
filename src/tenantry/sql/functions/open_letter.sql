-- Reads one delivery: its row of the inbox, what it tells (null for types the mirror does not use), and the Clerk ids
-- it is about. `bound`: the instance this database mirrors, as far as the caller knows. Writes nothing but the first
-- binding to an instance, so what fails here is the event itself: a dead letter. An error of another class is the
-- database's own and goes on to the caller.
create or replace function tenantry.open_letter(
  delivery jsonb, body text, bound text, out letter tenantry.webhook_events, out told tenantry.snapshots, out subjects text[])
language plpgsql as $$
declare
  event jsonb;
  kind  text;
begin
  subjects := '{}';
  letter.message_id := delivery ->> 'message_id';
  letter.digest := sha256(convert_to(body, 'UTF8'));
  event := tenantry.read_body(body);
  letter.org_id := tenantry.organization_of_event(event);  -- first, for a dead letter is found by them too
  letter.user_id := tenantry.user_of_event(event);
  letter.type := tenantry.clerk_text(event, 'type');
  letter.instance_id := tenantry.clerk_text(event, 'instance_id');
  letter.occurred_at := coalesce(
    tenantry.clerk_time(event -> 'timestamp'), tenantry.clerk_time(delivery -> 'sent_at'), clock_timestamp());
  if bound is null or letter.instance_id <> bound then
    perform tenantry.bind_instance(letter.instance_id);
  end if;
  if letter.type is null then
    perform tenantry.raise_error('TY010', 'the event names no type');
  end if;
  kind := tenantry.kind_of_event(letter.type);
  if kind is null then
    letter.outcome := 'ignored';
    return;
  end if;
  told := tenantry.read_event(letter.type, kind, event -> 'data', letter.occurred_at);
  letter.outcome := 'stale';  -- until merging says otherwise
  letter.org_id := coalesce(told.tenants[1].clerk_org_id, letter.org_id);
  letter.user_id := coalesce(told.users[1].id, letter.user_id);
  subjects := array_remove(array[event #>> '{data,id}', letter.org_id, letter.user_id], null);
  -- Of a session nothing is kept: its payload is the person's device and address.
  if kind <> 'sessions' then
    letter.data := tenantry.keep_of_event(event, delivery -> 'keep_private_metadata' is not distinct from 'true');
  end if;
exception
  when sqlstate 'TY018' then
    letter.outcome := 'refused';
    letter.error_code := sqlstate;
    get stacked diagnostics letter.error = pg_exception_detail;
  when sqlstate 'TY010' then
    letter.outcome := 'failed';
    letter.error_code := sqlstate;
    letter.body := tenantry.body_of_dead_letter(body, event, delivery -> 'keep_private_metadata' is not distinct from 'true');
    get stacked diagnostics letter.error = pg_exception_detail;
  when data_exception or program_limit_exceeded then
    letter.outcome := 'failed';
    letter.error_code := sqlstate;
    letter.body := tenantry.body_of_dead_letter(body, event, delivery -> 'keep_private_metadata' is not distinct from 'true');
    letter.error := sqlerrm;  -- not its detail, which quotes the body
end
$$;
