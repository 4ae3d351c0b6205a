-- Remembers ended sessions until no token of theirs can be valid; forgets those of before.
create or replace function tenantry.merge_ended_sessions(rows tenantry.ended_sessions[])
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  changed text[];
begin
  delete from tenantry.ended_sessions
  where session_id in (select session_id from tenantry.ended_sessions where keep_until < now() order by session_id for update skip locked);

  with new as (
    insert into tenantry.ended_sessions
    select distinct on (session_id) * from unnest(rows) where keep_until > now() order by session_id, ended_at
    on conflict do nothing
    returning session_id
  )
  select coalesce(array_agg(session_id), '{}') into changed from new;
  return changed;
end
$$;
