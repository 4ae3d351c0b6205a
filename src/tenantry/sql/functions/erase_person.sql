-- The first call of erase_user_v1: a person's rows of the mirror, their deliveries, and the dead letters that name them.
-- Who is in `erased` stays empty, whatever comes late; so the calls that follow find no new deliveries of theirs.
create or replace function tenantry.erase_person(user_id text, emails text[])
returns jsonb language plpgsql as $$
#variable_conflict use_column
declare
  erased_id constant text := user_id;
  addresses text[];
  pattern   text;
  invited   text[];
  people    bigint;
  members   bigint;
  guests    bigint;
  letters   bigint;
begin
  select array_agg(distinct lower(address)) into addresses from (
    select unnest(emails) union all select primary_email from tenantry.users where id = erased_id
    union all select email_address from tenantry.invitations where user_id = erased_id) as known(address)
  where address like '%@%';
  pattern := tenantry.pattern_of(erased_id, addresses);
  invited := array(select id from tenantry.invitations where user_id = erased_id or lower(email_address) = any (addresses));
  insert into tenantry.erased (id)
  select id from tenantry.users where id = erased_id union all select unnest(invited) on conflict do nothing;

  update tenantry.users set deleted_at = coalesce(deleted_at, ended_at), first_name = null
  where id = erased_id and (deleted_at is null or num_nonnulls(first_name, last_name, username, primary_email, image_url, external_id, public_metadata) > 0);
  get diagnostics people = row_count;
  update tenantry.tenant_memberships set public_metadata = null where user_id = erased_id and public_metadata is not null;
  get diagnostics members = row_count;
  update tenantry.invitations set email_address = null, public_metadata = null
  where id = any (invited) and num_nonnulls(email_address, public_metadata) > 0;
  get diagnostics guests = row_count;
  letters := tenantry.empty_letters(array(
    select message_id from tenantry.webhook_events where user_id = erased_id
    union select message_id from tenantry.webhook_events
    where outcome in ('failed', 'refused') and body is not null and tenantry.body_tells_of(body, pattern)));
  return jsonb_build_object('emails', coalesce(to_jsonb(addresses), '[]'), 'after', '', 'done', false, 'rows', jsonb_build_object(
    'users', people, 'tenant_memberships', members, 'invitations', guests, 'webhook_events', letters, 'changes', 0));
end
$$;
