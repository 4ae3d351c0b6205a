-- The further calls of erase_user_v1: of the next deliveries after `after`, others' too, those that name an address, and
-- those of the person's invitations; at the end the person's metadata in the feed.
create or replace function tenantry.erase_mentions(user_id text, emails text[], after text, most integer)
returns jsonb language plpgsql as $$
#variable_conflict use_column
declare
  erased_id constant text := user_id;
  pattern   constant text := tenantry.pattern_of(erased_id, emails);
  invited   constant text[] := array(
    select id from tenantry.invitations where user_id = erased_id or lower(email_address) = any (emails) union select id from tenantry.erased);
  reached   text;
  read      bigint;
  naming    text[];
  told      bigint := 0;
begin
  with page as materialized (
    select message_id, user_id, type, data from tenantry.webhook_events where message_id > after order by message_id limit most
  )
  select max(message_id), count(*), array_agg(message_id) filter (where data is not null and user_id is distinct from erased_id
    and (type like 'organizationInvitation.%' and data #>> '{data,id}' = any (invited)
         or exists (select from unnest(emails) as address where strpos(lower(data::text), address) > 0) and tenantry.tells_of(data, pattern)))
  into reached, read, naming from page;
  if read < most then
    update tenantry.changes set before = before - 'public_metadata', after = after - 'public_metadata'
    where (user_id = erased_id or (kind like 'invitation.%' and object_id = any (invited)))
      and (before ? 'public_metadata' or after ? 'public_metadata');
    get diagnostics told = row_count;
  end if;
  return jsonb_build_object('emails', to_jsonb(emails), 'after', reached, 'done', read < most, 'rows', jsonb_build_object(
    'webhook_events', tenantry.empty_letters(naming), 'changes', told));
end
$$;
