-- Whether a letter about to be written tells of an invitation that erase_user_v1 has emptied.
create or replace function tenantry.is_of_erased_invitation(letter tenantry.webhook_events)
returns boolean language plpgsql stable as $$
declare
  event jsonb := letter.data;
begin
  if letter.type is null or tenantry.kind_of_event(letter.type) is distinct from 'invitations' then
    return false;
  elsif event is null and letter.body is not null then
    event := tenantry.read_body(letter.body);  -- a dead letter that has a type could be read so far
  end if;
  return exists (select from tenantry.erased as e where e.id = event #>> '{data,id}');
end
$$;
