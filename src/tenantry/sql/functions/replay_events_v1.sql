-- Merges deliveries of the inbox again, as if they came now: dead letters, after what they failed at was mended, and
-- others, which changes nothing while the mirror knows what they tell.
--
-- ids:     message ids
-- options: {"keep_private_metadata": false}
-- returns: [{"message_id", "type", "was": <outcome before>, "outcome", "code"?, "error"?,
--            "changes": [{"kind", "object_id"}, ...]}, ...] in the order of `ids`, once each. Outcomes:
--   applied, stale, ignored, failed  of a dead letter: as record_events_v1 says, and its row says now
--   unchanged, applied               of another: whether the mirror knew it all; its row stays as it is
--   refused                          another instance's (TY018): its row stays as it is
--   empty                            nothing is kept that could be merged: a session's, an ignored type's, an erased person's
--   unknown                          there is no such delivery
--
-- Its time is that of the first delivery; private metadata that was not kept is not there to be kept. Merging commutes,
-- so that the order of replays does not matter.
--
-- Who may call: tenantry_app. Errors it raises, and locks: as record_events_v1.
create or replace function tenantry.replay_events_v1(ids text[], options jsonb default '{}')
returns jsonb language plpgsql security definer
set search_path = pg_catalog, tenantry, pg_temp
set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_variable
declare
  bound       constant text := tenantry.bound_instance();
  last_change constant bigint := coalesce((select max(seq) from tenantry.changes), 0);
  known       tenantry.webhook_events;
  body        text;
  opened      record;
  letter      tenantry.webhook_events;
  letters     tenantry.webhook_events[] := '{}';
  tried       text[] := '{}';
  judged      jsonb := '{}';
  snapshots   tenantry.snapshots;
  subjects    text[] := '{}';
  tellers     text[] := '{}';
  changed     text[] := '{}';
  answer      jsonb;
begin
  perform pg_advisory_xact_lock_shared(hashtext('tenantry.inbox'), 0);  -- alone: erase_user_v1
  perform pg_advisory_xact_lock(hashtext('tenantry.message'), bucket)
  from (select distinct hashtext(message_id) as bucket from unnest(ids) as message_id order by 1) as locks;

  for known in select e.* from tenantry.webhook_events as e where e.message_id = any (ids) order by e.received_at, e.message_id loop
    body := coalesce(known.body, known.data::text);
    answer := jsonb_build_object('message_id', known.message_id, 'type', known.type, 'was', known.outcome, 'outcome', 'empty');
    if body is not null then
      opened := tenantry.open_letter(jsonb_build_object(
        'message_id', known.message_id, 'sent_at', extract(epoch from coalesce(known.occurred_at, known.received_at)),
        'keep_private_metadata', coalesce(options -> 'keep_private_metadata', 'false')), body, bound);
      letter := opened.letter;
      tried := tried || known.message_id;
      answer := answer || tenantry.answer_letter(letter);
      if letter.outcome = 'stale' then
        snapshots := tenantry.join_snapshots(snapshots, opened.told);
        subjects := subjects || opened.subjects;
        tellers := tellers || array_fill(known.message_id, array[cardinality(opened.subjects)]);
      end if;
      if known.outcome = 'failed' and letter.outcome <> 'refused' then
        letters := letters || letter;
      end if;
    end if;
    judged := judged || jsonb_build_object(known.message_id, answer);
  end loop;

  if snapshots is distinct from null then
    perform tenantry.state_cause('webhook', jsonb_object(subjects, tellers));
    changed := tenantry.merge_snapshots(snapshots);
  end if;
  for answer in select jsonb_array_elements(tenantry.answer_batch(array_fill(null::jsonb, array[cardinality(letters)]), letters, changed)) loop
    judged := jsonb_set(judged, array[answer ->> 'message_id'], judged -> (answer ->> 'message_id') || answer);
  end loop;
  update tenantry.webhook_events as e set replays = e.replays + 1, replayed_at = clock_timestamp() where e.message_id = any (tried);
  return tenantry.answer_replay(ids, judged, last_change);
end
$$;
