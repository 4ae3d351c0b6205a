-- AFTER INSERT of ended sessions, per statement: see notify_endings. The subject is Clerk's id of the session.
create or replace function tenantry.notify_ended_sessions()
returns trigger language plpgsql as $$
begin
  perform tenantry.tell_endings((
    select case when count(*) <= 16 then array_agg(session_id) else '{*}' end from new_rows having count(*) > 0));
  return null;
end
$$;
