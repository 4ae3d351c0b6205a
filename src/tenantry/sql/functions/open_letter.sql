-- Reads one delivery: its row of the inbox, what it tells (null for types the mirror does not use), and the Clerk ids
-- it is about. Writes nothing but the first binding to an instance, so what fails here is the event itself: a dead
-- letter. An error of another class is the database's own and goes on to the caller.
create or replace function tenantry.open_letter(delivery jsonb, out letter tenantry.webhook_events, out told tenantry.snapshots, out subjects text[])
language plpgsql as $$
declare
  event jsonb;
begin
  letter.message_id := delivery ->> 'message_id';
  letter.digest := sha256(convert_to(delivery ->> 'body', 'UTF8'));
  event := tenantry.read_body(delivery ->> 'body');
  letter.type := tenantry.clerk_text(event, 'type');
  letter.user_id := tenantry.user_of_event(event);
  letter.instance_id := tenantry.clerk_text(event, 'instance_id');
  letter.occurred_at := coalesce(
    tenantry.clerk_time(event -> 'timestamp'), tenantry.clerk_time(delivery -> 'sent_at'), clock_timestamp());
  perform tenantry.bind_instance(letter.instance_id);
  if letter.type is null then
    perform tenantry.raise_error('TY010', 'the event names no type');
  end if;
  told := tenantry.read_event(event, letter.occurred_at);
  if told is not distinct from null then
    letter.outcome := 'ignored';
    return;
  end if;
  letter.outcome := 'stale';  -- until merging says otherwise
  letter.org_id := case when letter.type like 'organization.%' then event #>> '{data,id}' else tenantry.organization_of(event -> 'data') end;
  subjects := array[event #>> '{data,id}', letter.org_id, tenantry.user_of(event -> 'data')];
  -- Of a session nothing is kept: its payload is the person's device and address. Neither is the address an event was
  -- caused from, nor an invitation's link, which is a secret.
  if tenantry.kind_of_event(letter.type) <> 'sessions' then
    letter.data := event - 'event_attributes' #- '{data,url}';
    if delivery -> 'keep_private_metadata' is distinct from 'true' then
      letter.data := tenantry.without_private_metadata(letter.data);
    end if;
  end if;
exception
  when sqlstate 'TY018' then
    letter.outcome := 'refused';
    letter.error_code := sqlstate;
    get stacked diagnostics letter.error = pg_exception_detail;
  when sqlstate 'TY010' then
    letter.outcome := 'failed';
    letter.error_code := sqlstate;
    letter.body := tenantry.body_of_dead_letter(delivery, event);
    get stacked diagnostics letter.error = pg_exception_detail;
  when data_exception or program_limit_exceeded then
    letter.outcome := 'failed';
    letter.error_code := sqlstate;
    letter.body := tenantry.body_of_dead_letter(delivery, event);
    letter.error := sqlerrm;  -- not its detail, which quotes the body
end
$$;
