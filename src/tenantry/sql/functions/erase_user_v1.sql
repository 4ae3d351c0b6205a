-- Removes what mirror, inbox and feed hold of a person, save their id and that they are gone.
--
-- options: {"emails": ["...", ...]: addresses of theirs besides those the mirror knows}
-- returns: {"user": "erased", "unknown" or "live", "rows": {"users", "tenant_memberships", "invitations",
--           "webhook_events", "changes"}: how many held something}. Of a live user nothing is removed: Clerk would tell
--           it again.
--
-- Their id stays where others' rows name it: who joined, who invited. Addresses are looked for in every delivery, the body
-- of dead letters included; so this reads the whole inbox and feed. The end of a user whom a listing lacked becomes final.
--
-- Who may call: tenantry_app.
create or replace function tenantry.erase_user_v1(user_id text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
declare
  erased_id constant text := user_id;
  person    tenantry.users;
  emails    text[];
  invited   text[];
  people    bigint;
  members   bigint;
  guests    bigint;
  letters   bigint;
  told      bigint;
begin
  perform tenantry.check_ids(erased_id);
  -- The lock that merging takes on a user who begins or ends: no event lands in between.
  perform pg_advisory_xact_lock(hashtext('tenantry.merge'), hashtext('user:' || erased_id) & 1023);
  select * into person from tenantry.users where id = erased_id;
  if person.id is not null and person.ended_at is null then
    return jsonb_build_object('user', 'live', 'rows', '{}'::jsonb);
  end if;
  select array_agg(distinct lower(address)) into emails from (
    select unnest(tenantry.clerk_texts(options, 'emails')) union all select person.primary_email
    union all select email_address from tenantry.invitations where user_id = erased_id) as known(address)
  where address <> '';

  update tenantry.users set deleted_at = coalesce(deleted_at, ended_at), first_name = null
  where id = erased_id and (deleted_at is null or num_nonnulls(first_name, last_name, username, primary_email, image_url, external_id, public_metadata) > 0);
  get diagnostics people = row_count;
  update tenantry.tenant_memberships set public_metadata = null where user_id = erased_id and public_metadata is not null;
  get diagnostics members = row_count;
  select array_agg(id) into invited from tenantry.invitations where user_id = erased_id or lower(email_address) = any (emails);
  update tenantry.invitations set email_address = null, public_metadata = null
  where id = any (invited) and num_nonnulls(email_address, public_metadata) > 0;
  get diagnostics guests = row_count;

  update tenantry.webhook_events set data = null, body = null
  where (data is not null or body is not null) and (
    user_id = erased_id or body ~ ('\m' || regexp_replace(erased_id, '\W', '.', 'g') || '\M')
    or (type like 'organizationInvitation.%' and data #>> '{data,id}' = any (invited))
    or exists (select from unnest(emails) as address
               where strpos(lower(data::text), to_jsonb(address)::text) > 0 or strpos(lower(body), address) > 0));
  get diagnostics letters = row_count;
  update tenantry.changes set before = before - 'public_metadata', after = after - 'public_metadata'
  where (user_id = erased_id or (object_id = any (invited) and kind like 'invitation.%')) and (before ? 'public_metadata' or after ? 'public_metadata');
  get diagnostics told = row_count;
  return jsonb_build_object('user', case when person.id is null then 'unknown' else 'erased' end, 'rows', jsonb_build_object(
    'users', people, 'tenant_memberships', members, 'invitations', guests, 'webhook_events', letters, 'changes', told));
end
$$;
