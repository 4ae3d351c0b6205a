-- Empties the inbox of what it holds about those of these users who are deleted: what came before the deletion, and what
-- comes late. The lock that merging took on the user lets no letter slip between that could be merged.
create or replace function tenantry.erase_letters(user_ids text[])
returns void language plpgsql as $$
begin
  if exists (select from tenantry.users as u where u.id = any (user_ids) and u.deleted_at is not null) then
    perform tenantry.empty_letters(array(
      select e.message_id from tenantry.webhook_events as e join tenantry.users as u on u.id = e.user_id
      where u.id = any (user_ids) and u.deleted_at is not null and (e.data is not null or e.body is not null)));
  end if;
end
$$;
