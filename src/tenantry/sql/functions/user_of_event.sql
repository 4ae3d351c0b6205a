-- The id of the user an event is about, or whom its membership or invitation names; null for other types, and for what
-- is no id.
create or replace function tenantry.user_of_event(event jsonb)
returns text language sql immutable parallel safe as $$
  select id from (select case tenantry.kind_of_event(event ->> 'type')
    when 'users' then tenantry.clerk_text(event -> 'data', 'id')
    when 'memberships' then tenantry.user_of(event -> 'data')
    when 'invitations' then tenantry.user_of(event -> 'data')
  end as id) as named where length(id) <= 255
$$;
