-- Trigger, after a statement on what role_grants is made of: makes it anew, since roles are few. Of two live definitions
-- of a key the newer counts. A permission whose own row has ended, with no live one of the key, permits nothing.
create or replace function tenantry.refresh_role_grants()
returns trigger language plpgsql as $$
begin
  delete from tenantry.role_grants;
  insert into tenantry.role_grants (role, permissions, system_permissions, app_permissions, observed_at)
  select named.role, definition.permissions, definition.system_permissions,
    (select coalesce(jsonb_agg(a.permission order by a.permission), '[]') from tenantry.role_permissions as a where a.role = named.role),
    (select max(r.observed_at) from tenantry.roles as r where r.key = named.role and r.ended_at is null)
  from (
    select r.key from tenantry.roles as r where r.key is not null and r.ended_at is null
    union select a.role from tenantry.role_permissions as a
  ) as named(role)
  left join lateral (
    select r.permissions from tenantry.roles as r
    where r.key = named.role and r.ended_at is null and r.permissions is not null
    order by r.revision desc, r.id limit 1
  ) as newest on true
  left join lateral (
    select coalesce(jsonb_agg(p order by p) filter (where p not like 'org:sys\_%'), '[]'),
           coalesce(jsonb_agg(p order by p) filter (where p like 'org:sys\_%'), '[]')
    from unnest(newest.permissions) as p
    where not exists (select from tenantry.permissions as x where x.key = p)
       or exists (select from tenantry.permissions as x where x.key = p and x.ended_at is null)
  ) as definition(permissions, system_permissions) on newest.permissions is not null;
  return null;
end
$$;
