-- The id of the organization an event is about, or that its membership, invitation or domain names; null for other
-- types, and for what is no id.
create or replace function tenantry.organization_of_event(event jsonb)
returns text language plpgsql immutable parallel safe as $$
declare
  kind constant text := tenantry.kind_of_event(event ->> 'type');
  id   constant text := case
    when kind = 'organizations' then tenantry.clerk_text(event -> 'data', 'id')
    when kind in ('memberships', 'invitations', 'domains') then tenantry.organization_of(event -> 'data')
  end;
begin
  return case when length(id) <= 255 then id end;
end
$$;
