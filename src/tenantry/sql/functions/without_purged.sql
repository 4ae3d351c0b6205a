-- Snapshots without the memberships, invitations and domains of purged tenants: of those the mirror keeps no row.
create or replace function tenantry.without_purged(s tenantry.snapshots)
returns tenantry.snapshots language plpgsql stable as $$
declare
  purged constant uuid[] := array(select t.id from tenantry.tenants as t where t.purged_at is not null and t.id in (
    select m.tenant_id from unnest(s.memberships) as m union all select i.tenant_id from unnest(s.invitations) as i
    union all select d.tenant_id from unnest(s.domains) as d));
begin
  if cardinality(purged) > 0 then
    s.memberships := (select array_agg(m) from unnest(s.memberships) as m where m.tenant_id = any (purged) is not true);
    s.invitations := (select array_agg(i) from unnest(s.invitations) as i where i.tenant_id = any (purged) is not true);
    s.domains := (select array_agg(d) from unnest(s.domains) as d where d.tenant_id = any (purged) is not true);
  end if;
  return s;
end
$$;
