-- A delivery's JSON. What PostgreSQL cannot hold as jsonb (numbers out of range, absurd nesting) may stand in
-- `unsafe_metadata`, which users write themselves, of a user or of the user a session shows: it must not hide what else
-- the event says, a ban or a session's end above all. So what the mirror does not read is left out then.
create or replace function tenantry.read_body(body text)
returns jsonb language plpgsql immutable as $$
begin
  return body::jsonb;
exception when data_exception or program_limit_exceeded then
  return (
    select jsonb_object_agg(e.key, case when e.key = 'data' and json_typeof(e.value) = 'object' then (
        select jsonb_object_agg(d.key, d.value::text::jsonb) from json_each(e.value) as d
        where d.key not in ('unsafe_metadata', 'user', 'organization_memberships'))
      else e.value::text::jsonb end)
    from json_each(body::json) as e);
end
$$;
