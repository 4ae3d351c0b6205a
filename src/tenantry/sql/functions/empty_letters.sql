-- Empties letters of the inbox, and answers how many held something. A dead letter of which nothing is left cannot be
-- replayed: it is ignored from now on, and forgotten with the others.
create or replace function tenantry.empty_letters(ids text[])
returns bigint language plpgsql as $$
declare
  emptied bigint;
begin
  update tenantry.webhook_events as e set data = null, body = null,
    outcome = case e.outcome when 'failed' then 'ignored' else e.outcome end,
    error_code = case when e.outcome <> 'failed' then e.error_code end,
    error = case when e.outcome <> 'failed' then e.error end
  where e.message_id = any (ids) and (e.data is not null or e.body is not null);
  get diagnostics emptied = row_count;
  return emptied;
end
$$;
