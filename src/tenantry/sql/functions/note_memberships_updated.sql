-- AFTER UPDATE of memberships, per statement: see note_member_changes.
create or replace function tenantry.note_memberships_updated()
returns trigger language plpgsql as $$
begin
  if exists (select from new_rows) then
    perform tenantry.note_member_changes(array(select row(o.*)::tenantry.tenant_memberships from old_rows as o), array(select row(n.*)::tenantry.tenant_memberships from new_rows as n));
  end if;
  return null;
end
$$;
