-- AFTER a change of what concerns every member, the app's own map or the instance: see notify_endings.
create or replace function tenantry.notify_everybody()
returns trigger language plpgsql as $$
begin
  perform tenantry.tell_endings('{*}');
  return null;
end
$$;
