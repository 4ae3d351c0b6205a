-- Records verified deliveries and merges what they tell, in one transaction.
--
-- batch:   [{"message_id": "msg_...", "body": "<the delivery's JSON text>", "sent_at": <svix-timestamp, seconds>,
--            "keep_private_metadata": false}, ...]; only the first two are required
-- returns: [{"message_id", "outcome", "type"?, "code"?, "error"?}, ...] in the same order. Outcomes:
--   applied    the mirror changed          stale      it knew this, or something newer
--   ignored    a type it does not use      duplicate  delivered before, with the same bytes
--   failed     cannot be read: kept whole, as a dead letter
--   refused    the same id with other bytes, or another instance's (TY018): answer 400
--
-- Who may call: tenantry_app. An error it raises, save TY010, is the database's own (a deadlock, a full disk): nothing
-- was stored, and the sender must try again. Locks: message ids in order, then as merge_snapshots says.
-- The planner settings: a plan for arrays of unknown length is looked up again in every call, and one made while the
-- tables were empty would read them whole ever after. Keys and indexes are all that these statements need.
create or replace function tenantry.record_events_v1(batch jsonb)
returns jsonb language plpgsql security definer
set search_path = pg_catalog, tenantry, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_variable
declare
  delivery   jsonb;
  event      jsonb;
  letter     tenantry.webhook_events;
  known      tenantry.webhook_events;
  letters    tenantry.webhook_events[] := '{}';
  answers    jsonb[] := '{}';
  told       tenantry.snapshots;
  snapshots  tenantry.snapshots;
  deliveries jsonb := '{}';
  changed    text[] := '{}';
  subject    text;
begin
  perform tenantry.check_batch(batch);
  perform pg_advisory_xact_lock(hashtext('tenantry.message'), bucket)
  from (select distinct hashtext(d ->> 'message_id') as bucket from jsonb_array_elements(batch) as d order by 1) as locks;

  for delivery in select d from jsonb_array_elements(batch) as d loop
    letter := null;
    letter.message_id := delivery ->> 'message_id';
    letter.digest := sha256(convert_to(delivery ->> 'body', 'UTF8'));
    select * into known from tenantry.webhook_events e where e.message_id = letter.message_id;
    if not found then
      select * into known from unnest(letters) as e where e.message_id = letter.message_id;
    end if;

    if known.message_id is null or known.digest = letter.digest and known.outcome = 'refused' then
      -- Reading writes nothing: what fails here is the event itself, a dead letter. What fails later is the database.
      begin
        event := (delivery ->> 'body')::jsonb;
        letter.type := tenantry.clerk_text(event, 'type');
        letter.instance_id := tenantry.clerk_text(event, 'instance_id');
        letter.occurred_at := coalesce(
          tenantry.clerk_time(event -> 'timestamp'), tenantry.clerk_time(delivery -> 'sent_at'), clock_timestamp());
        perform tenantry.bind_instance(letter.instance_id);
        if letter.type is null then
          perform tenantry.raise_error('TY010', 'the event names no type');
        end if;
        told := tenantry.read_event(event, letter.occurred_at);
        letter.outcome := case when told is not distinct from null then 'ignored' else 'stale' end;
        if letter.outcome = 'stale' then
          subject := event #>> '{data,id}';
          letter.org_id := case when letter.type like 'organization.%' then subject else tenantry.organization_of(event -> 'data') end;
          -- Of a session nothing is kept: its payload is the person's device and address.
          if tenantry.kind_of_event(letter.type) <> 'sessions' then
            letter.data := case when delivery -> 'keep_private_metadata' = 'true' then event else tenantry.without_private_metadata(event) end;
          end if;
          snapshots := tenantry.join_snapshots(snapshots, told);
          deliveries := deliveries || jsonb_build_object(
            coalesce(letter.org_id, subject), letter.message_id,
            coalesce(tenantry.user_of(event -> 'data'), subject), letter.message_id,
            subject, letter.message_id);
        end if;
      exception
        when sqlstate 'TY018' then
          letter.outcome := 'refused';
          letter.error_code := sqlstate;
          get stacked diagnostics letter.error = pg_exception_detail;
        when data_exception or program_limit_exceeded or sqlstate 'TY010' then
          letter.outcome := 'failed';
          letter.error_code := sqlstate;
          get stacked diagnostics letter.error = pg_exception_detail;
          letter.error := coalesce(nullif(letter.error, ''), sqlerrm);
          letter.body := delivery ->> 'body';
      end;
      letters := letters || letter;
      answers := answers || null::jsonb;
    elsif known.digest = letter.digest then
      answers := answers || jsonb_build_object('message_id', letter.message_id, 'outcome', 'duplicate', 'type', known.type);
    else
      update tenantry.webhook_events e set conflicts = e.conflicts + 1 where e.message_id = letter.message_id;
      answers := answers || jsonb_build_object('message_id', letter.message_id, 'outcome', 'refused', 'type', known.type,
        'code', 'TY010', 'error', 'this message id was delivered before with other content');
    end if;
  end loop;

  if snapshots is distinct from null then
    perform tenantry.state_cause('webhook', deliveries);
    changed := tenantry.merge_snapshots(snapshots);
  end if;
  return tenantry.answer_batch(answers, letters, changed);
end
$$;
