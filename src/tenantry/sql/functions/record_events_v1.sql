-- Records verified deliveries and merges what they tell, in one transaction.
--
-- batch:   [{"message_id": "msg_...", "body": "<the delivery's JSON text>", "sent_at": <svix-timestamp, seconds>,
--            "keep_private_metadata": false}, ...]; only the first two are required
-- bodies:  the bodies in the same order, instead of in the batch: as text they are read once, in JSON twice
-- returns: [{"message_id", "outcome", "type"?, "code"?, "error"?}, ...] in the same order. Outcomes:
--   applied    the mirror changed          stale      it knew this, or something newer
--   ignored    a type it does not use      duplicate  delivered before, with the same bytes
--   failed     cannot be read: kept whole, as a dead letter
--   refused    the same id with other bytes, or another instance's (TY018): answer 400
--
-- Who may call: tenantry_app. An error it raises, save TY010, is the database's own (a deadlock, a full disk): nothing
-- was stored, and the sender must try again. Locks: the inbox, shared; message ids in order; then as
-- merge_snapshots says.
-- The planner settings: a plan for arrays of unknown length is looked up again in every call, and one made while the
-- tables were empty would read them whole ever after. Keys and indexes are all that these statements need.
-- Where a table of one row is read whole all the same, that looks dear enough to compile: hence no JIT.
create or replace function tenantry.record_events_v1(batch jsonb, bodies text[] default '{}')
returns jsonb language plpgsql security definer
set search_path = pg_catalog, tenantry, pg_temp
set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_variable
declare
  ids         constant text[] := tenantry.check_batch(batch, bodies);
  bound       constant text := tenantry.bound_instance();
  earlier     tenantry.webhook_events[];
  delivery    jsonb;
  id          text;
  body        text;
  first       boolean;
  same_bytes  boolean;
  known       tenantry.webhook_events;
  opened      record;
  letters     tenantry.webhook_events[] := '{}';
  judged      text[] := '{}';
  answers     jsonb[] := '{}';
  conflicting text[] := '{}';
  snapshots   tenantry.snapshots;
  subjects    text[] := '{}';
  tellers     text[] := '{}';
  changed     text[] := '{}';
  answer      jsonb;
begin
  perform pg_advisory_xact_lock_shared(hashtext('tenantry.inbox'), 0);  -- alone: erase_user_v1
  perform pg_advisory_xact_lock(hashtext('tenantry.message'), bucket)
  from (select distinct hashtext(message_id) as bucket from unnest(ids) as message_id order by 1) as locks;
  earlier := array(select e from tenantry.webhook_events as e where e.message_id = any (ids));

  for n in 1 .. cardinality(ids) loop
    delivery := batch -> n - 1;
    id := ids[n];
    body := coalesce(bodies[n], delivery ->> 'body');
    first := id <> all (judged);
    known := null;
    if not first or cardinality(earlier) > 0 then
      select * into known from unnest(letters || earlier) as e where e.message_id = id limit 1;
      same_bytes := known.digest = sha256(convert_to(body, 'UTF8'));
    end if;

    if known.message_id is null or (first and same_bytes and known.outcome = 'refused') then
      opened := tenantry.open_letter(delivery, body, bound);
      snapshots := tenantry.join_snapshots(snapshots, opened.told);
      subjects := subjects || opened.subjects;
      tellers := tellers || array_fill(id, array[cardinality(opened.subjects)]);
      letters := letters || opened.letter;
      judged := judged || id;
      answers := answers || null::jsonb;
    elsif same_bytes and known.outcome = 'refused' then
      answers := answers || tenantry.answer_letter(known);
    elsif same_bytes then
      answers := answers || jsonb_build_object('message_id', id, 'outcome', 'duplicate', 'type', known.type);
    else
      conflicting := conflicting || id;
      answers := answers || jsonb_build_object('message_id', id, 'outcome', 'refused', 'type', known.type,
        'code', 'TY010', 'error', 'this message id was delivered before with other content');
    end if;
  end loop;

  if snapshots is distinct from null then
    perform tenantry.state_cause('webhook', jsonb_object(subjects, tellers));
    changed := tenantry.merge_snapshots(snapshots);
  end if;
  answer := tenantry.answer_batch(answers, letters, changed);
  if cardinality(conflicting) > 0 then
    update tenantry.webhook_events as e set conflicts = e.conflicts + cardinality(array_positions(conflicting, e.message_id))
    where e.message_id = any (conflicting);
  end if;
  return answer;
end
$$;
