-- The id of the user an event is about, or whom its membership or invitation names; null for other types, and for what
-- is no id.
create or replace function tenantry.user_of_event(event jsonb)
returns text language plpgsql immutable parallel safe as $$
declare
  kind constant text := tenantry.kind_of_event(event ->> 'type');
  id   constant text := case
    when kind = 'users' then tenantry.clerk_text(event -> 'data', 'id')
    when kind in ('memberships', 'invitations') then tenantry.user_of(event -> 'data')
  end;
begin
  return case when length(id) <= 255 then id end;
end
$$;
