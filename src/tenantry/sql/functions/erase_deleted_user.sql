-- A deleted user's personal data leaves the mirror with the deletion, and a late event does not bring it back.
create or replace function tenantry.erase_deleted_user()
returns trigger language plpgsql as $$
begin
  if new.deleted_at is not null then
    new.first_name := null;
    new.last_name := null;
    new.username := null;
    new.primary_email := null;
    new.image_url := null;
    new.external_id := null;
    new.public_metadata := null;
  end if;
  return new;
end
$$;
