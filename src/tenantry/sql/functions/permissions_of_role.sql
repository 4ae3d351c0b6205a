-- What a mirrored role permits, `org:sys_*` included; null where the mirror has not seen the role. A permission whose
-- own row has ended, with no live one of the key, permits nothing.
create or replace function tenantry.permissions_of_role(role_key text)
returns text[] language plpgsql stable as $$
begin
  return (
    select array(
      select p from unnest(r.permissions) as p
      where not exists (select from tenantry.permissions as x where x.key = p)
         or exists (select from tenantry.permissions as x where x.key = p and x.ended_at is null))
    from tenantry.roles as r
    where r.key = permissions_of_role.role_key and r.ended_at is null and r.permissions is not null
    order by r.revision desc, r.id limit 1);
end
$$;
