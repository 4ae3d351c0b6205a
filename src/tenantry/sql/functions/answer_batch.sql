-- Writes the letters of a batch into the inbox, once each with their outcome, and answers for every delivery of it:
-- `answers` holds those already decided, null where the next letter is meant. `changed`: the ids that merging wrote.
-- What came late about a purged organization, or about an erased person's invitation, is not kept.
create or replace function tenantry.answer_batch(answers jsonb[], letters tenantry.webhook_events[], changed text[])
returns jsonb language plpgsql as $$
declare
  letter   tenantry.webhook_events;
  recorded tenantry.webhook_events[] := '{}';
  users    text[] := '{}';
  purged   constant text[] := array(
    select t.clerk_org_id from tenantry.tenants as t
    where t.purged_at is not null and t.clerk_org_id in (select l.org_id from unnest(letters) as l));
begin
  foreach letter in array letters loop
    if letter.outcome = 'stale' and (letter.data is null or letter.data #>> '{data,id}' = any (changed) or letter.org_id = any (changed)) then
      letter.outcome := 'applied';
    end if;
    if letter.org_id = any (purged) or tenantry.is_of_erased_invitation(letter) then
      letter.data := null;
      letter.body := null;
      letter.outcome := case letter.outcome when 'failed' then 'ignored' else letter.outcome end;  -- as empty_letters does
      letter.error_code := case when letter.outcome <> 'ignored' then letter.error_code end;
      letter.error := case when letter.outcome <> 'ignored' then letter.error end;
    end if;
    recorded := recorded || letter;
    users := users || letter.user_id;
    answers[array_position(answers, null)] := tenantry.answer_letter(letter);
  end loop;

  if cardinality(recorded) > 0 then
    insert into tenantry.webhook_events as e (
      message_id, type, instance_id, org_id, user_id, outcome, error_code, error, digest, occurred_at, data, body)
    select r.message_id, r.type, r.instance_id, r.org_id, r.user_id, r.outcome, r.error_code, r.error, r.digest, r.occurred_at, r.data, r.body
    from unnest(recorded) as r
    on conflict (message_id) do update set  -- refused once, for its instance, or replayed: judged again
      instance_id = coalesce(excluded.instance_id, e.instance_id), occurred_at = coalesce(excluded.occurred_at, e.occurred_at), outcome = excluded.outcome, error_code = excluded.error_code, error = excluded.error,
      type = excluded.type, org_id = excluded.org_id, user_id = excluded.user_id, data = excluded.data, body = excluded.body;
    perform tenantry.erase_letters(users);
  end if;
  return to_jsonb(answers);
end
$$;
