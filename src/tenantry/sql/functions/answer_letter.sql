-- What record_events_v1 answers for a delivery it has judged.
create or replace function tenantry.answer_letter(letter tenantry.webhook_events)
returns jsonb language sql stable parallel safe as $$
  select jsonb_strip_nulls(jsonb_build_object('message_id', letter.message_id, 'outcome', letter.outcome,
    'type', letter.type, 'code', letter.error_code, 'error', letter.error))
$$;
