-- Of a purged tenant the mirror keeps the ids and that it was deleted; a late event does not bring back more.
create or replace function tenantry.empty_purged_tenant()
returns trigger language plpgsql as $$
begin
  new.name := null;
  new.slug := null;
  new.image_url := null;
  new.public_metadata := null;
  new.role_set_key := null;
  return new;
end
$$;
