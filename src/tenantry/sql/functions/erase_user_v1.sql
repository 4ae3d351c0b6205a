-- Removes what mirror, inbox and feed hold of a person, save their id and that they are gone: a part a call, each in a
-- transaction of its own, until the answer has "done": true.
--
-- user_id: Clerk's, user_...
-- options: {"emails": ["...", ...]: addresses of theirs besides those the mirror knows,
--           "after": as the answer before said, together with its "emails"; absent at first, "limit": deliveries a call}
-- returns: {"user": "erased", "unknown" or "live", "rows": {"users", "tenant_memberships", "invitations",
--           "webhook_events", "changes"}: how many held something, "emails", "after", "done"}. Of a live user nothing is
--           removed: Clerk would tell it again.
-- raises:  TY010 for what is no user's id, and for what is no address
--
-- Their id stays where others' rows name it: who joined, who invited. Addresses are looked for in every delivery: the
-- later calls read the whole inbox. The end of a user whom a listing lacked becomes final.
--
-- Who may call: tenantry_app. Locks, in the first call alone: the inbox, so that no delivery is under way that does not
-- know yet who is erased; then the user, as merging does.
create or replace function tenantry.erase_user_v1(user_id text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp set jit = off as $$
#variable_conflict use_column
declare
  erased_id constant text := user_id;
  after     constant text := options ->> 'after';
  emails    constant text[] := array(select lower(address) from unnest(tenantry.clerk_texts(options, 'emails')) as address);
  person    tenantry.users;
begin
  if coalesce(erased_id !~ '^user_\w{1,250}$', true) then
    perform tenantry.raise_error('TY010', 'a user''s id begins with user_');
  elsif jsonb_typeof(options -> 'emails') <> 'array' or exists (
      select from unnest(emails) as address where address !~ '^[^\s@"\\<>(),;:]+@[^\s@"\\<>(),;:]+$') then
    perform tenantry.raise_error('TY010', 'emails holds what is no address');
  elsif coalesce(options ->> 'limit', '1') !~ '^[1-9]\d{0,8}$' then
    perform tenantry.raise_error('TY010', 'limit is no whole number above 0');
  end if;
  if after is null then
    perform pg_advisory_xact_lock(hashtext('tenantry.inbox'), 0);
    perform pg_advisory_xact_lock(hashtext('tenantry.merge'), hashtext('user:' || erased_id) & 1023);
  end if;
  select * into person from tenantry.users where id = erased_id;
  if person.id is not null and person.ended_at is null then
    return jsonb_build_object('user', 'live', 'rows', '{}'::jsonb, 'done', true);
  end if;
  return jsonb_build_object('user', case when person.id is null then 'unknown' else 'erased' end)
    || case when after is null then tenantry.erase_person(erased_id, emails)
       else tenantry.erase_mentions(erased_id, emails, after, coalesce((options ->> 'limit')::integer, 10000)) end;
end
$$;
