-- AFTER INSERT of memberships, per statement: see note_member_changes.
create or replace function tenantry.note_memberships_inserted()
returns trigger language plpgsql as $$
declare
  come tenantry.tenant_memberships[];
begin
  select array_agg(n) into come from new_rows as n;
  if come is not null then
    perform tenantry.note_member_changes('{}', come);
  end if;
  return null;
end
$$;
