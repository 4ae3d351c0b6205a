-- Tenantry's half in the database. Run it once, as a login with CREATEROLE that may create schemas:
--
--     psql -v ON_ERROR_STOP=1 -f db-sync.sql "$TENANTRY_MIGRATION_URL"
--
-- Then let your app's login in, an ordinary role:
--
--     grant tenantry_tenant, tenantry_app, tenantry_gate to app;
--
-- `tenantry db migrate --app-role app` does all of it in place of this file. After an upgrade of the package it brings
-- the schema up to date; `tenantry db sql --from N` prints what is new.

-- The tenantry schema. Written by `tenantry db sql`.

begin;
-- The roles that isolation stands on. Roles belong to the whole cluster, so another database, or another
-- installer at this very moment, may have made them already.
do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('tenantry_owner',      'nologin'),            -- owns the mirror and the functions that write it
      ('tenantry_tenant',     'nologin'),            -- what a transaction with a tenant runs as
      ('tenantry_app',        'nologin'),            -- may call the functions; granted to the app's logins
      ('tenantry_bypass',     'nologin'),            -- what a transaction across tenants runs as
      ('tenantry_gate',       'nologin noinherit'),  -- SET ROLE tenantry_bypass passes, its rights do not
      ('tenantry_owner_gate', 'nologin noinherit')   -- the same for tenantry_owner: who migrates holds it
    ) as role(name, attributes)
  loop
    begin
      execute format('create role %I %s', wanted.name, wanted.attributes);
    exception when duplicate_object or unique_violation then null;
    end;
  end loop;

  -- Whoever migrates must be able to SET ROLE to each. PostgreSQL 16 and later give a role's creator ADMIN alone.
  for wanted in
    select * from (values
      ('tenantry_bypass',     'tenantry_gate',       not pg_has_role('tenantry_gate', 'tenantry_bypass', 'member')),
      ('tenantry_owner',      'tenantry_owner_gate', not pg_has_role('tenantry_owner_gate', 'tenantry_owner', 'member')),
      ('tenantry_owner_gate', current_user,          not (select rolsuper from pg_roles where rolname = current_user)),
      ('tenantry_tenant',     current_user,          not (select rolsuper from pg_roles where rolname = current_user)),
      ('tenantry_app',        current_user,          not (select rolsuper from pg_roles where rolname = current_user)),
      ('tenantry_gate',       current_user,          not (select rolsuper from pg_roles where rolname = current_user))
    ) as membership(role, member, missing) where missing
  loop
    begin
      execute format('grant %I to %I', wanted.role, wanted.member);
    exception when unique_violation then null;
    end;
  end loop;
exception
  when insufficient_privilege then
    raise exception using
      errcode = 'insufficient_privilege',
      message = format('%I may not create or grant the roles of tenantry', current_user),
      detail = sqlerrm,
      hint = 'Migrate as a role with CREATEROLE. Where another login of this cluster made the roles, it runs: '
             || 'grant tenantry_owner_gate, tenantry_tenant, tenantry_app, tenantry_gate to <this role> with admin option.';
end
$$;

create schema tenantry authorization tenantry_owner;
set local role tenantry_owner;
revoke all on schema tenantry from public;
grant usage on schema tenantry to tenantry_tenant, tenantry_app, tenantry_bypass;
alter default privileges for role tenantry_owner revoke execute on functions from public;

-- What is installed. `breaking` migrations are those that an older release cannot work with.
create table tenantry.migrations (
  number     integer primary key,
  name       text not null,
  breaking   boolean not null,
  applied_at timestamptz not null default now()
);
grant select on tenantry.migrations to tenantry_app, tenantry_tenant;

insert into tenantry.migrations (number, name, breaking) values (1, 'roles', false);
reset role;
commit;

begin;
-- The mirror: one row per object of Clerk, holding its newest snapshot.
set local role tenantry_owner;

-- What every mirrored table carries besides its content; `keep_newest_snapshot` merges it, in any order. A pattern for
-- LIKE, dropped at the end.
create table tenantry.merge_columns (
  revision      bigint not null default 0,                 -- Clerk's updated_at in ms; 0 = only known to exist (a stub)
  observed_at   timestamptz not null default '-infinity',  -- Clerk's clock when the snapshot was true
  content_hash  bigint not null default 0,                 -- of the content; breaks a full tie the same way everywhere
  last_seen     timestamptz,                               -- latest time Clerk showed the object
  last_absent   timestamptz,                               -- latest time a listing, and a request for it, lacked it
  deleted_at    timestamptz,                               -- a deletion by an event: final, Clerk reuses no id
  needs_refetch boolean not null default false,            -- two snapshots of one revision differ: Clerk must be asked
  ended_at      timestamptz generated always as (          -- null = live
    coalesce(deleted_at, case when last_seen > last_absent then null else last_absent end)) stored
);

-- Which Clerk instance this database mirrors; events, pages and tokens of another are refused.
create table tenantry.clerk_instance (
  singleton   boolean primary key default true check (singleton),
  instance_id text not null,
  bound_at    timestamptz not null default now()
);

create table tenantry.tenants (
  id              uuid primary key,          -- ours: derived from instance and Clerk id when first seen
  clerk_org_id    text unique,               -- an organization ...
  clerk_user_id   text unique,               -- ... or a personal account
  name            text,
  slug            text,                      -- may be null, reused, renamed: never a key
  image_url       text,
  public_metadata jsonb,
  role_set_key    text,
  purged_at       timestamptz,               -- when all its rows were deleted but this one, which keeps ids alone
  created_at      timestamptz,
  like tenantry.merge_columns including all,
  constraint tenants_is_an_organization_or_a_personal_account check (num_nonnulls(clerk_org_id, clerk_user_id) = 1)
);

create table tenantry.users (
  id              text primary key,          -- Clerk's
  first_name      text,
  last_name       text,
  username        text,
  primary_email   text,                      -- may be null, unverified or shared over time: never a key
  image_url       text,
  external_id     text,
  banned          boolean not null default false,
  public_metadata jsonb,
  created_at      timestamptz,
  like tenantry.merge_columns including all
);

create table tenantry.tenant_memberships (
  id              text primary key,          -- Clerk's: who re-joins gets a new one
  tenant_id       uuid references tenantry.tenants (id),
  user_id         text references tenantry.users (id),
  role            text,                      -- always with `org:`
  permissions     text[],                    -- as Clerk showed them; the role's own row is better
  public_metadata jsonb,
  created_at      timestamptz,
  like tenantry.merge_columns including all,
  constraint tenant_memberships_place_is_known_while_live check (num_nulls(tenant_id, user_id) = 0 or ended_at is not null)
);
-- The current membership of (tenant, user) is the newest.
create index tenant_memberships_current on tenantry.tenant_memberships (tenant_id, user_id, created_at desc nulls last, id desc);
create index tenant_memberships_of_user on tenantry.tenant_memberships (user_id);

create table tenantry.invitations (
  id              text primary key,
  tenant_id       uuid references tenantry.tenants (id),
  email_address   text,
  role            text,
  status          text,                      -- pending, accepted, revoked, expired; expiry sends no event: see expires_at
  inviter_id      text,
  user_id         text,                      -- who accepted
  public_metadata jsonb,
  expires_at      timestamptz,
  created_at      timestamptz,
  like tenantry.merge_columns including all
);
create index invitations_of_tenant on tenantry.invitations (tenant_id);

create table tenantry.domains (
  id              text primary key,
  tenant_id       uuid references tenantry.tenants (id),
  name            text,
  enrollment_mode text,
  verified        boolean,
  created_at      timestamptz,
  like tenantry.merge_columns including all
);
create index domains_of_tenant on tenantry.domains (tenant_id);

create table tenantry.roles (
  id              text primary key,          -- Clerk's: a deletion names nothing else
  key             text,                      -- always with `org:`
  name            text,
  description     text,
  permissions     text[],                    -- keys, `org:sys_*` among them
  created_at      timestamptz,
  like tenantry.merge_columns including all
);
create index roles_by_key on tenantry.roles (key);

create table tenantry.permissions (
  id              text primary key,          -- Clerk's: a deletion names nothing else
  key             text,
  name            text,
  description     text,
  type            text,
  created_at      timestamptz,
  like tenantry.merge_columns including all
);
create index permissions_by_key on tenantry.permissions (key);

-- Few, and asked for by every merge: of these nothing that comes late is kept.
create index tenants_purged on tenantry.tenants (id) where purged_at is not null;

-- Objects that a tie left in doubt: few, and asked for by the next reconcile run.
create index tenants_in_doubt on tenantry.tenants (id) where needs_refetch;
create index users_in_doubt on tenantry.users (id) where needs_refetch;
create index tenant_memberships_in_doubt on tenantry.tenant_memberships (id) where needs_refetch;
create index invitations_in_doubt on tenantry.invitations (id) where needs_refetch;
create index domains_in_doubt on tenantry.domains (id) where needs_refetch;

-- The live members: membership, user and tenant all are, and no newer membership of the pair exists.
create view tenantry.members with (security_invoker = true) as
select m.id, m.tenant_id, m.user_id, m.role, m.permissions, m.public_metadata, m.created_at
from tenantry.tenant_memberships m
join tenantry.tenants t on t.id = m.tenant_id and t.ended_at is null
join tenantry.users u on u.id = m.user_id and u.ended_at is null
where m.ended_at is null
  and not exists (
    select from tenantry.tenant_memberships newer
    where newer.tenant_id = m.tenant_id and newer.user_id = m.user_id
      and (coalesce(newer.created_at, '-infinity'), newer.id) > (coalesce(m.created_at, '-infinity'), m.id)
  );

-- The app's own map: Clerk role -> app permission; `*` stands for a segment, at the end for the rest.
create table tenantry.role_permissions (
  role       text not null,
  permission text not null,
  primary key (role, permission)
);
insert into tenantry.role_permissions values
  ('org:admin', '*'), ('org:member', '*:read'), ('org:basic_member', '*:read');

-- What each role permits, out of the three tables above: refresh_role_grants keeps it, every transaction with a tenant
-- reads one row of it.
create table tenantry.role_grants (
  role               text primary key,
  permissions        jsonb,                  -- of Clerk's definition; null where the mirror has not seen the role
  system_permissions jsonb,                  -- those that begin with `org:sys_`
  app_permissions    jsonb not null,         -- patterns of the app's own map
  observed_at        timestamptz             -- when the newest live definition was true
);

drop table tenantry.merge_columns;

insert into tenantry.migrations (number, name, breaking) values (2, 'mirror', false);
reset role;
commit;

begin;
-- Deliveries as they came, what really changed, and who has read how far.
set local role tenantry_owner;

-- The inbox: every verified delivery with its outcome. Dead letters are the rows with outcome 'failed'.
create table tenantry.webhook_events (
  message_id  text primary key,              -- svix-id: the same on every retry and replay
  type        text,
  instance_id text,
  org_id      text,                          -- the organization it is about, where it names one
  user_id     text,                          -- the user it is about or names: whose deletion erases `data` and `body`
  outcome     text not null,
  error_code  text,                          -- SQLSTATE, for failed and refused
  error       text,
  digest      bytea not null,                -- sha256 of the body: the same id with other bytes is refused
  conflicts   integer not null default 0,    -- how often that happened
  replays     integer not null default 0,    -- how often it was merged again, see replay_events_v1 ...
  replayed_at timestamptz,                   -- ... and when at last
  occurred_at timestamptz,                   -- Clerk's clock
  received_at timestamptz not null default clock_timestamp(),  -- ours
  data        jsonb,                         -- the event, for types the mirror uses; not of a deleted user
  body        text,                          -- the delivery as it came, for dead letters alone
  constraint webhook_events_outcome check (outcome in ('applied', 'stale', 'ignored', 'failed', 'refused'))
);
create index webhook_events_by_time on tenantry.webhook_events (received_at);
create index webhook_events_by_type on tenantry.webhook_events (type, received_at);
create index webhook_events_of_user on tenantry.webhook_events (user_id, received_at) where user_id is not null;
create index webhook_events_of_organization on tenantry.webhook_events (org_id, received_at) where org_id is not null;
create index webhook_events_dead_letters on tenantry.webhook_events (received_at) where outcome in ('failed', 'refused');

-- The newest time without deliveries that was long enough to ask Clerk about: one row, see watch_silence_v1.
create table tenantry.silence (
  singleton  boolean primary key default true check (singleton),
  since      timestamptz not null,           -- the delivery before it, or else the installation
  asked_at   timestamptz not null,           -- when Clerk was asked last whether anything has changed
  changed_at timestamptz,                    -- when something had, on Clerk's clock
  raised_at  timestamptz                     -- when the alarm was raised: once
);

-- Up to when deliveries were forgotten: one row, see forget_events_v1.
create table tenantry.retention (
  singleton boolean primary key default true check (singleton),
  before    timestamptz not null             -- of what was received earlier, some are gone
);

-- Users and invitations that erase_user_v1 has emptied, by their Clerk ids: what comes late does not fill them again.
create table tenantry.erased (
  id text primary key,
  at timestamptz not null default now()
);

-- Sessions ended, removed or revoked: their tokens are refused until none can be valid any more.
create table tenantry.ended_sessions (
  session_id text primary key,
  ended_at   timestamptz not null,
  keep_until timestamptz not null
);
create index ended_sessions_by_keep_until on tenantry.ended_sessions (keep_until);

-- What really changed, once each. `seq` is the order of writing; `pos`, given to committed rows by
-- `sequence_changes_v1`, is the order of reading.
create table tenantry.changes (
  seq        bigint generated always as identity primary key,
  pos        bigint,
  kind       text not null,                  -- tenant.created, member.joined, member.role_changed, ...
  object_id  text not null,
  tenant_id  uuid,
  user_id    text,
  before     jsonb,
  after      jsonb,
  cause      text not null,                  -- webhook, reconcile or token
  message_id text,                           -- of the delivery that caused it
  at         timestamptz not null default clock_timestamp()
);
create unique index changes_in_order on tenantry.changes (pos) where pos is not null;
create index changes_unsequenced on tenantry.changes (seq) where pos is null;
create index changes_of_delivery on tenantry.changes (message_id) where message_id is not null;
create sequence tenantry.changes_pos owned by tenantry.changes.pos;

-- A named reader's position in `changes`, and what holds it up.
create table tenantry.consumers (
  name      text primary key,
  kinds     text[] not null default '{*}',   -- of changes it is told: `member.joined`, `member.*`, `*`
  pos       bigint not null default 0,       -- the last change it has dealt with, or passed over
  moved_at  timestamptz not null default now(),
  failing   bigint,                          -- the change its handler failed at ...
  attempts  integer not null default 0,      -- ... so many times in a row,
  error     text,                            -- with this at last
  retry_at  timestamptz,                     -- when it is told of that change again
  parked_at timestamptz,                     -- since when it waits for a person to decide
  constraint consumers_fail_at_a_change check ((failing is null) = (attempts = 0))
);

-- Reconcile runs: what each found and did. One without `finished_at` goes on where it was stopped, see begin_reconcile_v1.
create table tenantry.reconcile_runs (
  id          bigint generated always as identity primary key,
  org_id      text,                          -- the one organization it is about, else everything
  dry         boolean not null default false,
  attempt     integer not null default 1,    -- which process it is that works on it: another one takes it over
  started_at  timestamptz not null default now(),  -- Clerk's clock: rows seen since then are not looked for
  touched_at  timestamptz not null default now(),
  finished_at timestamptz,
  state       jsonb not null default '{}',   -- where a killed run goes on
  counts      jsonb not null default '{}',   -- by kind: listed, created, updated, ended, unconfirmed
  drift       jsonb not null default '{}'    -- by kind: how many objects differed, and whether the brake held
);

-- The pages a run has merged. Unlogged: should a crash of the server empty it, the kinds under way are listed again.
create unlogged table tenantry.reconcile_pages (
  run_id   bigint not null references tenantry.reconcile_runs (id) on delete cascade,
  kind     text not null,
  part     text not null,                    -- the organization whose listing it is of, else empty
  number   integer not null,
  total    integer,                          -- how many objects the listing has, as the page said
  first_id text,                             -- neighbouring pages overlap by one object, or else rows have moved
  last_id  text,
  seen     bigint[] not null,                -- hashes of the ids: two alike hide an absence, and that is all
  created  integer not null,
  updated  integer not null,
  primary key (run_id, kind, part, number)
);

-- What a source showed, read into rows: the one thing that merging takes. `firm`: a sighting alone is worth a write.
-- `alone`: it tells of absences, or of a membership by its id: no other merge may be under way.
create type tenantry.snapshots as (
  tenants        tenantry.tenants[],
  users          tenantry.users[],
  memberships    tenantry.tenant_memberships[],
  invitations    tenantry.invitations[],
  domains        tenantry.domains[],
  roles          tenantry.roles[],
  permissions    tenantry.permissions[],
  ended_sessions tenantry.ended_sessions[],
  firm           boolean,
  alone          boolean
);

insert into tenantry.migrations (number, name, breaking) values (3, 'inbox_and_feed', false);
reset role;
commit;

begin;
-- Which tables are isolated or shared, and the isolation of the mirror itself.
set local role tenantry_owner;

create table tenantry.table_isolation (
  relation      regclass primary key,
  mode          text not null,
  tenant_column name,                        -- isolated tables only
  tenant_key    text,                        -- which column of `tenants` it holds: id, clerk_org_id
  permissions   jsonb not null default '{}', -- command -> permission
  constraint table_isolation_mode check (mode in ('isolated', 'read', 'write', 'none')),
  constraint table_isolation_key check (mode <> 'isolated' or (tenant_column is not null and tenant_key in ('id', 'clerk_org_id')))
);

-- The app's own tables of organizations that follow `tenants`, see follow_tenants_v1 ...
create table tenantry.followers (
  relation   regclass primary key,
  routine    text not null,                  -- writes it, with the rights of the table's owner
  org_column name not null,                  -- where it has Clerk's id
  columns    jsonb not null,                 -- what else of an organization is copied -> into which column
  since      timestamptz not null default now()
);
-- ... and the organizations whose rows there are not as they should be: not copied yet, or refused.
create table tenantry.follower_gaps (
  relation   regclass not null,              -- no reference: a merge under way may write it while the table is forgotten
  tenant_id  uuid not null references tenantry.tenants (id),
  attempts   integer not null default 0,
  code       text,                           -- SQLSTATE of the last attempt ...
  object     text,                           -- ... the constraint or column it names: never what was to be written
  at         timestamptz,
  primary key (relation, tenant_id)
);

-- A verified token's facts as set_tenant_v1 takes them. The rest is jsonb because any caller may have written it: a
-- cast that fails here would be no error of ours.
create type tenantry.identity_facts as (
  user_id           text,
  org_id            text,
  org_slug          text,
  session_id        text,
  instance_id       text,
  role              text,
  permissions       jsonb,
  features          jsonb,
  issued_at         jsonb,
  expires_at        jsonb,
  personal_account  jsonb,
  membership_source text
);

insert into tenantry.migrations (number, name, breaking) values (4, 'isolation', false);
reset role;
commit;

begin;
set local role tenantry_owner;
set local check_function_bodies = off;
-- Makes a consumer, unless it is there: then only its kinds are noted.
--
-- consumer: its name, 1 to 200 characters
-- options:  {"from": "now" (default) or "beginning", "kinds": ["member.joined", "user.*", ...], default ["*"]}
--           "now": it is told of what is committed from here on
-- returns:  {"created": true or false, "pos": n}; raises TY010
--
-- Who may call: tenantry_app, in a transaction of its own: "now" holds the sequencer's lock until the commit.
create or replace function tenantry.add_consumer_v1(consumer text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  start constant text := coalesce(options ->> 'from', 'now');
  told  constant text[] := coalesce(tenantry.clerk_texts(options, 'kinds'), '{*}');
  known tenantry.consumers;
  place bigint := 0;
begin
  if coalesce(consumer, '') !~ '^[[:print:]]{1,200}$' then
    perform tenantry.raise_error('TY010', 'a consumer''s name has 1 to 200 printable characters');
  elsif start not in ('now', 'beginning') then
    perform tenantry.raise_error('TY010', format('a consumer starts from now or from the beginning, not from %L', start));
  end if;
  update tenantry.consumers as c set kinds = told where c.name = consumer and c.kinds <> told;
  select * into known from tenantry.consumers as c where c.name = consumer;
  if known.name is not null then
    return jsonb_build_object('created', false, 'pos', known.pos);
  end if;
  if start = 'now' then
    perform set_config('idle_in_transaction_session_timeout', '5s', true), pg_advisory_xact_lock(hashtext('tenantry.sequence'), 0);
    while tenantry.place_changes(10000) > 0 loop
    end loop;
    place := coalesce((select max(c.pos) from tenantry.changes as c), 0);
  end if;
  insert into tenantry.consumers (name, kinds, pos) values (consumer, told, place) on conflict do nothing;
  return jsonb_build_object('created', found, 'pos', (select c.pos from tenantry.consumers as c where c.name = consumer));
end
$$;

-- Our tenant of a Clerk id, for `tenantry adopt` and the triggers it makes: an organization's that the mirror knows, or
-- that of a user's personal account, which is made where it is not there yet. Null where there is none.
--
-- Who may call: tenantry_app. Locks: the personal account's row, where it is made.
create or replace function tenantry.adopt_tenant_v1(clerk_id text)
returns uuid language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  instance constant text := tenantry.bound_instance();
  found_id uuid := (select t.id from tenantry.tenants as t where t.clerk_org_id = clerk_id);
begin
  if found_id is null and clerk_id like 'user\_%' and instance is not null then
    found_id := (select t.id from tenantry.tenants as t where t.clerk_user_id = clerk_id);
    if found_id is null then
      insert into tenantry.tenants (id, clerk_user_id) values (tenantry.derive_tenant_id(instance, clerk_id), clerk_id)
      on conflict do nothing;
      found_id := tenantry.derive_tenant_id(instance, clerk_id);
    end if;
  end if;
  return found_id;
end
$$;

-- Moves a consumer on to a change, with the transaction in which that change is dealt with. It holds the consumer's row
-- until then: nobody else can move it, and where this transaction ends without a commit, it has not moved.
--
-- pos:     the change's
-- options: {"after": <where the consumer was read to be>}
-- returns: {"taken": false, "context": <the tenant's, for enter_change_v1; null where the change concerns none, or a purged one>}
--          {"taken": true}: somebody else is at this consumer, or it is elsewhere or parked. Nothing was moved: roll back
-- Raises TY010 where no placed change has this position, or it is not after `after`.
--
-- Who may call: tenantry_app. Locks: the consumer's row.
create or replace function tenantry.advance_consumer_v1(consumer text, pos bigint, options jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  known  tenantry.consumers;
  change tenantry.changes;
  tenant tenantry.tenants;
begin
  if coalesce(options ->> 'after', '') !~ '^\d{1,18}$' then
    perform tenantry.raise_error('TY010', 'after is a whole number');
  end if;
  select * into change from tenantry.changes as c where c.pos = advance_consumer_v1.pos;
  if change.pos is null or change.pos <= (options ->> 'after')::bigint then
    perform tenantry.raise_error('TY010', format('no change after %s has the position %s', options ->> 'after', pos));
  end if;
  select * into known from tenantry.consumers as c where c.name = consumer for no key update skip locked;
  if known.name is null or known.parked_at is not null or known.pos <> (options ->> 'after')::bigint then
    return jsonb_build_object('taken', true);
  end if;
  update tenantry.consumers as c
  set pos = change.pos, moved_at = clock_timestamp(), failing = null, attempts = 0, error = null, retry_at = null
  where c.name = consumer;
  select * into tenant from tenantry.tenants as t where t.id = change.tenant_id and t.purged_at is null;
  return jsonb_build_object('taken', false, 'context', case when tenant.id is not null then tenantry.describe_app(tenant) end);
end
$$;

-- After a commit that may have written changes: has them placed, and their readers notified, if there are any. In a
-- transaction of its own, as sequence_changes_v1, and as rarely as one likes: readers ask at an interval too.
--
-- returns: {"consumers": false} where nobody reads, else {"consumers": true, "sequenced": n, "busy"?: true}
--
-- Who may call: tenantry_app.
create or replace function tenantry.announce_changes_v1()
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  if not exists (select from tenantry.consumers) then
    return jsonb_build_object('consumers', false);
  end if;
  return jsonb_build_object('consumers', true) || tenantry.sequence_changes_v1();
end
$$;

-- Writes the letters of a batch into the inbox, once each with their outcome, and answers for every delivery of it:
-- `answers` holds those already decided, null where the next letter is meant. `changed`: the ids that merging wrote.
-- What came late about a purged organization, or about an erased person's invitation, is not kept.
create or replace function tenantry.answer_batch(answers jsonb[], letters tenantry.webhook_events[], changed text[])
returns jsonb language plpgsql as $$
declare
  letter   tenantry.webhook_events;
  recorded tenantry.webhook_events[] := '{}';
  users    text[] := '{}';
  purged   constant text[] := array(
    select t.clerk_org_id from tenantry.tenants as t
    where t.purged_at is not null and t.clerk_org_id in (select l.org_id from unnest(letters) as l));
begin
  foreach letter in array letters loop
    if letter.outcome = 'stale' and (letter.data is null or letter.data #>> '{data,id}' = any (changed) or letter.org_id = any (changed)) then
      letter.outcome := 'applied';
    end if;
    if letter.org_id = any (purged) or tenantry.is_of_erased_invitation(letter) then
      letter.data := null;
      letter.body := null;
      letter.outcome := case letter.outcome when 'failed' then 'ignored' else letter.outcome end;  -- as empty_letters does
      letter.error_code := case when letter.outcome <> 'ignored' then letter.error_code end;
      letter.error := case when letter.outcome <> 'ignored' then letter.error end;
    end if;
    recorded := recorded || letter;
    users := users || letter.user_id;
    answers[array_position(answers, null)] := tenantry.answer_letter(letter);
  end loop;

  if cardinality(recorded) > 0 then
    insert into tenantry.webhook_events as e (
      message_id, type, instance_id, org_id, user_id, outcome, error_code, error, digest, occurred_at, data, body)
    select r.message_id, r.type, r.instance_id, r.org_id, r.user_id, r.outcome, r.error_code, r.error, r.digest, r.occurred_at, r.data, r.body
    from unnest(recorded) as r
    on conflict (message_id) do update set  -- refused once, for its instance, or replayed: judged again
      instance_id = coalesce(excluded.instance_id, e.instance_id), occurred_at = coalesce(excluded.occurred_at, e.occurred_at), outcome = excluded.outcome, error_code = excluded.error_code, error = excluded.error,
      type = excluded.type, org_id = excluded.org_id, user_id = excluded.user_id, data = excluded.data, body = excluded.body;
    perform tenantry.erase_letters(users);
  end if;
  return to_jsonb(answers);
end
$$;

-- What record_events_v1 answers for a delivery it has judged.
create or replace function tenantry.answer_letter(letter tenantry.webhook_events)
returns jsonb language sql stable parallel safe as $$
  select jsonb_strip_nulls(jsonb_build_object('message_id', letter.message_id, 'outcome', letter.outcome,
    'type', letter.type, 'code', letter.error_code, 'error', letter.error))
$$;

-- What replay_events_v1 answers: for each id what was judged of it, and what it changed in the feed since `last_change`.
create or replace function tenantry.answer_replay(ids text[], judged jsonb, last_change bigint)
returns jsonb language plpgsql stable as $$
begin
  return (
    with told as materialized (
      select c.message_id, jsonb_agg(jsonb_build_object('kind', c.kind, 'object_id', c.object_id) order by c.seq) as changes
      from tenantry.changes as c where c.seq > last_change and c.message_id = any (ids) group by 1
    )
    select coalesce(jsonb_agg(
      coalesce(judged -> asked.id, jsonb_build_object('message_id', asked.id, 'outcome', 'unknown'))
      || case when judged #>> array[asked.id, 'outcome'] = 'stale' and judged #>> array[asked.id, 'was'] <> 'failed'
           then jsonb_build_object('outcome', case when t.changes is null then 'unchanged' else 'applied' end) else '{}' end
      || jsonb_build_object('changes', coalesce(t.changes, '[]')) order by asked.place), '[]')
    from (select id, min(place) as place from unnest(ids) with ordinality as u(id, place) group by 1) as asked
    left join told as t on t.message_id = asked.id);
end
$$;

-- Begins a reconcile run, or goes on with one that was stopped less than an hour ago.
--
-- options: {"instance_id": "ins_..." (required: TY018 if the database mirrors another), "started_at": <ms, Clerk's clock,
--           required>, "org_id": "org_..." for one organization alone, "dry_run": bool, "fresh": true to go on with none,
--           "unless_within": <seconds>: only where no run of everything has ended within them}
-- returns: {"id", "attempt", "started_at": <ms>, "resumed": bool, "state": {...}}, or {} where none is due
--
-- Who may call: tenantry_app, while another transaction of it holds lock_reconcile_v1.
create or replace function tenantry.begin_reconcile_v1(options jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
declare
  begun_at constant timestamptz := tenantry.clerk_time(options -> 'started_at');
  only_org constant text := tenantry.clerk_text(options, 'org_id');
  is_dry   constant boolean := coalesce(options -> 'dry_run' = 'true', false);
  run      tenantry.reconcile_runs;
begin
  if begun_at is null or tenantry.clerk_text(options, 'instance_id') is null then
    perform tenantry.raise_error('TY010', 'options lack started_at or instance_id');
  elsif coalesce(options ->> 'unless_within', '0') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'unless_within is no whole number of seconds');
  end if;
  perform tenantry.check_ids(only_org);
  perform tenantry.bind_instance(tenantry.clerk_text(options, 'instance_id'));
  if exists (
    select from tenantry.reconcile_runs as r where r.org_id is null and not r.dry and r.state -> 'quick' is distinct from 'true'
      and r.finished_at > now() - coalesce(options ->> 'unless_within', '0')::integer * interval '1 second'
  ) then
    return '{}';
  end if;

  select * into run from tenantry.reconcile_runs as r order by r.id desc limit 1 for update;
  if run.finished_at is null and run.touched_at > now() - interval '1 hour' and run.org_id is not distinct from only_org
     and not run.dry and not is_dry and options -> 'fresh' is distinct from 'true' then
    update tenantry.reconcile_runs as r set attempt = r.attempt + 1, touched_at = now() where r.id = run.id returning * into run;
  else
    delete from tenantry.reconcile_pages;
    insert into tenantry.reconcile_runs (org_id, dry, started_at) values (only_org, is_dry, begun_at) returning * into run;
  end if;
  return jsonb_build_object('id', run.id, 'attempt', run.attempt, 'resumed', run.attempt > 1, 'state', run.state,
    'started_at', (extract(epoch from run.started_at) * 1000)::bigint);
end
$$;

-- Binds the database to a Clerk instance at first sight, and refuses (TY018) whatever names another.
-- Locks: until it is bound, one transaction after the other, whether or not it names an instance: tenants' ids are
-- derived from it, so of two beside each other one would refer to a tenant by an id that the other one's row has not.
create or replace function tenantry.bind_instance(claimed text)
returns void language plpgsql as $$
declare
  bound text := tenantry.bound_instance();
begin
  if bound is null then
    perform pg_advisory_xact_lock(hashtext('tenantry.instance'), 0);
    if claimed is not null then
      insert into tenantry.clerk_instance (instance_id) values (claimed) on conflict do nothing;
    end if;
    bound := tenantry.bound_instance();
  end if;
  if bound <> claimed then
    perform tenantry.raise_error('TY018', format('it names %s, this database mirrors %s', claimed, bound));
  end if;
end
$$;

-- The body that a dead letter keeps: as it came, save what no delivery keeps (keep_of_event). Of a session, and of a type
-- the mirror does not use, that is everything, readable or not. `event`: the body read, or null where it could not be.
create or replace function tenantry.body_of_dead_letter(body text, event jsonb, keep_private_metadata boolean)
returns text language plpgsql immutable as $$
declare
  type text := event ->> 'type';
  kept jsonb;
begin
  if event is null then
    type := body::json ->> 'type';  -- no jsonb, but perhaps JSON
  end if;
  if type ~ '^\w+\.\w+$' and coalesce(tenantry.kind_of_event(type), 'sessions') = 'sessions' then
    return null;
  end if;
  kept := tenantry.keep_of_event(event, keep_private_metadata);
  return case when event is null or kept = event then body else kept::text end;
exception when data_exception or program_limit_exceeded then
  return body;  -- no JSON at all, or no object
end
$$;

-- The same of a dead letter's body: as it came, and as JSON where it is any, which may write letters as `\u0061`.
create or replace function tenantry.body_tells_of(body text, pattern text)
returns boolean language plpgsql immutable as $$
begin
  return body ~* pattern or tenantry.tells_of(tenantry.read_body(body), pattern);
exception when data_exception or program_limit_exceeded then
  return body ~* pattern;
end
$$;

-- The Clerk instance this database mirrors, or null before the first event, page or token.
create or replace function tenantry.bound_instance()
returns text language plpgsql stable as $$
begin
  return (select instance_id from tenantry.clerk_instance);
end
$$;

-- Opens every tenant to this transaction: for migrations of data, exports, support. The reason goes to the server's
-- log and stays readable as current_setting('tenantry.bypass_reason').
--
-- returns: {"bypass": "<reason>"}; raises TY002 inside a tenant, TY010 without a reason
--
-- Who may call: tenantry_app, through a gate: the login itself does not have the bypass' rights.
create or replace function tenantry.bypass_tenant_v1(reason text)
returns jsonb language plpgsql as $$
begin
  perform tenantry.refuse_second_context();
  if coalesce(trim(reason), '') = '' then
    perform tenantry.raise_error('TY010', 'state a reason');
  end if;
  raise log 'tenantry: bypass: %', reason;
  perform set_config('tenantry.bypass_reason', reason, true),
          set_config('tenantry.bypass_from', current_setting('role'), true),
          set_config('role', 'tenantry_bypass', true);
  return jsonb_build_object('bypass', reason);
end
$$;

-- Whether the user's role permits this by the app's own map (`role_permissions`); TY001 without a tenant.
create or replace function tenantry.can(permission text)
returns boolean language plpgsql stable parallel safe as $$
declare
  patterns constant jsonb := tenantry.current_context() -> 'app_permissions';
  pattern  text;
begin
  if patterns = 'null' then  -- the app itself
    return tenantry.permission_matches('*', permission);
  end if;
  for pattern in select jsonb_array_elements_text(patterns) loop
    if tenantry.permission_matches(pattern, permission) then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- Copies organizations into the app's own tables that follow and do not have them as they are: see follow_tenants_v1.
--
-- options: {"limit": so many for each table, 100 unless given}
-- returns: {"copied": n, "behind": how many are left}: call it again, in another transaction, while it copies some
-- raises:  TY010
--
-- Who may call: tenantry_app. Locks: the organizations' rows and the app's, until the transaction ends.
create or replace function tenantry.catch_up_v1(options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  copied integer;
begin
  if coalesce(options ->> 'limit', '100') !~ '^[1-9]\d{0,5}$' then
    perform tenantry.raise_error('TY010', 'limit is a whole number up to 999999');
  end if;
  copied := tenantry.fill_gaps(coalesce(options ->> 'limit', '100')::integer);
  return jsonb_build_object('copied', copied, 'behind', (
    select count(*) from tenantry.follower_gaps as g join tenantry.followers as f on f.relation = g.relation
    join pg_class as c on c.oid = f.relation));
end
$$;

-- Refuses (TY010) what is no array of deliveries, each with a body of its own or in `bodies`; answers their message ids,
-- in order.
create or replace function tenantry.check_batch(batch jsonb, bodies text[])
returns text[] language plpgsql as $$
declare
  delivery jsonb;
  id       text;
  ids      text[] := '{}';
begin
  if jsonb_typeof(batch) is distinct from 'array' then
    perform tenantry.raise_error('TY010', 'the batch is not an array');
  end if;
  for n in 0 .. jsonb_array_length(batch) - 1 loop
    delivery := batch -> n;
    id := tenantry.clerk_text(delivery, 'message_id');
    if id is null or (bodies[n + 1] is null and jsonb_typeof(delivery -> 'body') is distinct from 'string') then
      perform tenantry.raise_error('TY010', 'a delivery lacks message_id or body');
    end if;
    ids := ids || id;
  end loop;
  perform tenantry.check_ids(variadic ids);
  return ids;
end
$$;

-- Refuses what follow_tenants_v1 cannot do, naming why.
create or replace function tenantry.check_follower_options(relation regclass, options jsonb, org_column name, columns jsonb)
returns void language plpgsql as $$
declare
  kind  "char";
  owner oid;
  wrong text;
begin
  perform tenantry.refuse_second_context();
  select c.relkind, c.relowner into kind, owner from pg_class as c where c.oid = relation;
  if kind is null or kind not in ('r', 'p') then
    perform tenantry.raise_error('TY030', format('%s is no table', coalesce(relation::text, 'null')));
  elsif not pg_has_role(owner, 'usage') then
    perform tenantry.raise_error('TY030', format('%s belongs to %I: only its owner may have it follow, and you are %I', relation, pg_get_userbyid(owner), current_user));
  elsif not (select has_schema_privilege(owner, c.relnamespace, 'create') from pg_class as c where c.oid = relation) then
    perform tenantry.raise_error('TY030', format('%I may not create a function in the schema of %s, which is to write it', pg_get_userbyid(owner), relation));
  elsif jsonb_typeof(options) <> 'object' or jsonb_typeof(columns) <> 'object' then
    perform tenantry.raise_error('TY010', 'options, and columns in them, are JSON objects');
  end if;
  select option into wrong from jsonb_object_keys(options) as option where option not in ('org_id', 'columns', 'copy') limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY010', format('unknown option %L: org_id, columns and copy are known', wrong));
  elsif coalesce(options ->> 'copy', 'later') <> 'later' then
    perform tenantry.raise_error('TY010', 'option "copy" is "later" or left out');
  end if;
  select w.what into wrong from jsonb_each(columns) as w(what, place)
  where w.what not in (select what from tenantry.follower_writes()) or jsonb_typeof(w.place) <> 'string' limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY010', format('columns.%s: %s can be copied, each into a column', wrong,
      (select string_agg(what, ', ') from tenantry.follower_writes())));
  end if;

  select coalesce(w.what, 'org_id') into wrong
  from (select null, org_column::text, '{text,varchar}'::regtype[]
        union all select c.key, c.value, k.types from jsonb_each_text(columns) as c join tenantry.follower_writes() as k on k.what = c.key) as w(what, place, types)
  left join pg_attribute as a on a.attrelid = relation and a.attname = w.place and a.attnum > 0 and not a.attisdropped
  where a.attname is null or a.attgenerated <> '' or a.attidentity <> '' or not a.atttypid = any (w.types::oid[])
     or w.what = 'deleted_at' and a.attnotnull and a.atttypid <> 'boolean'::regtype
  limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY030', format('%s has no column %I that could hold %s', relation, coalesce(columns ->> wrong, org_column), wrong));
  end if;
  select c.value into wrong from jsonb_each_text(columns) as c group by 1 having count(*) > 1 or c.value = org_column limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY030', format('the column %I of %s is named twice', wrong, relation));
  elsif not exists (
      select from pg_index as i join pg_attribute as a on a.attrelid = i.indrelid and a.attname = org_column
      where i.indrelid = relation and i.indisunique and i.indisvalid and i.indpred is null and a.attnum = any (i.indkey)) then
    perform tenantry.raise_error('TY030', format('%I of %s is not unique: an organization has one row', org_column, relation));
  end if;
  select string_agg(quote_ident(a.attname), ', ') into wrong from pg_attribute as a
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attnotnull and not a.atthasdef and a.attidentity = ''
    and a.attname <> org_column and a.attname not in (select c.value from jsonb_each_text(columns) as c);
  if wrong is not null then
    perform tenantry.raise_error('TY030', format(
      'no row could be added to %s: %s may not be null. Name what is copied into it, or give it a default', relation, wrong));
  end if;
end
$$;

-- check_v1 about the app's own tables of organizations that follow: TC26, TC27.
create or replace function tenantry.check_followers()
returns table (name text, object text, code text, explanation text, fix text) language plpgsql stable as $$
begin
  return query
  select 'follower-broken', f.relation::text, 'TC26',
    case when c.oid is null then 'This table was to follow the mirror''s organizations, and was dropped.'
      else format('The function %s, by which this table follows the mirror''s organizations, is missing, was changed, or may be called by others.', f.routine) end,
    format(case when c.oid is null then 'select tenantry.unfollow_tenants_v1(%L);' else 'select tenantry.follow_tenants_v1(%L);' end, f.relation)
  from tenantry.followers as f left join pg_class as c on c.oid = f.relation
  where c.oid is null or not exists (
    select from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
    where format('%I.%I', n.nspname, p.proname) = f.routine and p.proargtypes = array['jsonb'::regtype::oid]::oidvector
      and p.prosecdef and p.proowner = c.relowner and has_function_privilege('tenantry_owner', p.oid, 'execute')
      and has_schema_privilege('tenantry_owner', n.oid, 'usage')
      and not exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as g
                      where g.grantee not in (p.proowner, 'tenantry_owner'::regrole::oid)));

  return query
  select 'follower-behind', f.relation::text, 'TC27',
    format('%s of the mirror''s organizations are not in this table as they are%s.', count(*),
      coalesce('; it refused with ' || string_agg(distinct concat_ws(' ', g.code, nullif(g.object, '')), ', '), '')),
    'select tenantry.catch_up_v1();'
  from tenantry.followers as f join pg_class as c on c.oid = f.relation join tenantry.follower_gaps as g on g.relation = f.relation
  group by f.relation;
end
$$;

-- Refuses (TY010) ids and keys too long to be Clerk's: an index could not hold them, and merging would fail for the
-- whole batch. Nulls pass.
create or replace function tenantry.check_ids(variadic ids text[])
returns void language plpgsql as $$
declare
  id text;
begin
  foreach id in array ids loop
    if length(id) > 255 then
      perform tenantry.raise_error('TY010', 'an id or key has more than 255 characters');
    end if;
  end loop;
end
$$;

-- Refuses what isolate_table_v1 cannot do, naming why.
create or replace function tenantry.check_isolation_options(relation regclass, options jsonb, tenant_key text, permissions jsonb)
returns void language plpgsql as $$
declare
  kind  "char";
  owner oid;
  wrong text;
begin
  perform tenantry.refuse_second_context();
  if jsonb_typeof(options) <> 'object' or jsonb_typeof(permissions) <> 'object' then
    perform tenantry.raise_error('TY010', 'options, and permissions in them, are JSON objects');
  end if;
  select c.relkind, c.relowner into kind, owner from pg_class as c where c.oid = relation;
  if kind is null or kind not in ('r', 'p') then
    perform tenantry.raise_error('TY030', format('%s is no table', coalesce(relation::text, 'null')));
  elsif not pg_has_role(owner, 'usage') then
    perform tenantry.raise_error('TY030', format('%s belongs to %I: only its owner may isolate it, and you are %I', relation, pg_get_userbyid(owner), current_user));
  elsif exists (select from pg_inherits where inhrelid = relation) and not exists (
      select from tenantry.table_isolation as i join pg_inherits as h on h.inhparent = i.relation where h.inhrelid = check_isolation_options.relation) then
    perform tenantry.raise_error('TY030', format('%s is a partition or child: isolate its parent', relation));
  elsif tenant_key not in ('id', 'clerk_org_id') then
    perform tenantry.raise_error('TY010', format('key %L is neither id nor clerk_org_id', tenant_key));
  end if;
  select option into wrong from jsonb_object_keys(options) as option where option not in ('column', 'key', 'backfill', 'permissions', 'check') limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY010', format('unknown option %L: column, key, backfill, permissions and check are known', wrong));
  end if;
  select option into wrong from jsonb_each(options) as o(option, value)
  where option <> 'permissions' and (jsonb_typeof(value) not in ('string', 'null') or value = '""') limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY010', format('option %L is a text', wrong));
  end if;
  if coalesce(options ->> 'check', 'later') <> 'later' then
    perform tenantry.raise_error('TY010', 'option "check" is "later" or left out');
  end if;
  select command into wrong from jsonb_each(permissions) as p(command, permission)
  where command not in ('select', 'insert', 'update', 'delete') or jsonb_typeof(permission) <> 'string' limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY010', format('permissions.%s: the commands are select, insert, update and delete, each with a permission', wrong));
  end if;
end
$$;

-- check_v1 about keys and indexes of isolated tables: TC1x.
create or replace function tenantry.check_keys()
returns table (name text, object text, code text, explanation text, fix text) language plpgsql stable as $$
begin
  -- A generated key is nobody's to choose, and a uuid cannot be guessed: neither tells.
  return query
  select 'unique-across-tenants', i.relation::text, 'TC10',
    format('%s is unique across tenants: an insert that fails tells that another tenant has the value.', x.indexrelid::regclass)
    || case when x.indisexclusion then ' With the tenant, a gist index takes the extension btree_gist.' else '' end,
    case when x.indisexclusion
      then format('alter table %s drop constraint %I, add %s;', i.relation, k.conname,
        regexp_replace(pg_get_constraintdef(k.oid), '\(', format('(%I with =, ', i.tenant_column)))
      when k.conname is not null
      then format('alter table %s drop constraint %I, add %s%s (%I, %s);', i.relation, k.conname, case k.contype when 'p' then 'primary key' else 'unique' end,
        case when x.indnullsnotdistinct then ' nulls not distinct' end, i.tenant_column, columns)
      else format('drop index %s; create unique index on %s (%I, %s)%s%s;', x.indexrelid::regclass, i.relation, i.tenant_column, columns,
        case when x.indnullsnotdistinct then ' nulls not distinct' end, ' where ' || pg_get_expr(x.indpred, x.indrelid))
    end
  from tenantry.table_isolation as i
  join pg_index as x on x.indrelid = i.relation and (x.indisunique or x.indisexclusion)
  join pg_attribute as t on t.attrelid = i.relation and t.attname = i.tenant_column
  left join pg_constraint as k on k.conindid = x.indexrelid and k.conrelid = i.relation and k.contype in ('p', 'u', 'x')
  cross join lateral (select string_agg(pg_get_indexdef(x.indexrelid, n, true), ', ' order by n) from generate_series(1, x.indnkeyatts) as n) as keys(columns)
  where i.mode = 'isolated' and not t.attnum = any (x.indkey) and not exists (select from pg_inherits where inhrelid = i.relation)
    and not exists (
      select from pg_attribute as a
      where a.attrelid = i.relation and x.indnkeyatts = 1 and a.attnum = x.indkey[0]
        and (a.atttypid = 'uuid'::regtype or (x.indisprimary and (a.atthasdef or a.attidentity <> ''))));

  return query
  select 'reference-across-tenants', i.relation::text, 'TC11',
    format('Foreign key %I does not carry the tenant: a row may refer to another tenant''s, and its deletion may cascade there.', k.conname),
    case when i.tenant_key <> there.tenant_key then
      format('No key can carry it: %s tells its tenant by %s, %s by %s. Isolate both by the same one.', i.relation, i.tenant_key, k.confrelid::regclass, there.tenant_key)
    else  -- The owner, under a forced policy, could not validate a key.
    format('alter table %1$s no force row level security; alter table %2$s no force row level security; ', i.relation, k.confrelid::regclass)
    || case when not tenantry.is_unique(k.confrelid, there.tenant_column || target.names) then
      format('alter table %s add unique (%I, %s); ', k.confrelid::regclass, there.tenant_column, target.list) else '' end
    || format('alter table %s drop constraint %I, add foreign key (%I, %s) references %s (%I, %s)', i.relation, k.conname,
      i.tenant_column, source.list, k.confrelid::regclass, there.tenant_column, target.list)
    || case k.confdeltype when 'c' then ' on delete cascade' when 'r' then ' on delete restrict' when 'n' then format(' on delete set null (%s)', source.list)
      when 'd' then format(' on delete set default (%s)', source.list) else '' end
    || case k.confupdtype when 'c' then ' on update cascade' else '' end
    || format('; alter table %1$s force row level security; alter table %2$s force row level security;', i.relation, k.confrelid::regclass)
    end
  from tenantry.table_isolation as i
  join pg_constraint as k on k.conrelid = i.relation and k.contype = 'f' and k.conparentid = 0
  join tenantry.table_isolation as there on there.relation = k.confrelid and there.mode = 'isolated'
  cross join lateral tenantry.columns_of(k.conrelid, k.conkey) as source
  cross join lateral tenantry.columns_of(k.confrelid, k.confkey) as target
  where i.mode = 'isolated' and not exists (select from pg_inherits where inhrelid = i.relation)
    and not exists (
      select from generate_subscripts(k.conkey, 1) as n
      join pg_attribute as mine on mine.attrelid = k.conrelid and mine.attnum = k.conkey[n]
      join pg_attribute as theirs on theirs.attrelid = k.confrelid and theirs.attnum = k.confkey[n]
      where mine.attname = i.tenant_column and theirs.attname = there.tenant_column);

  -- Under any policy the planner may not run a function that could leak on rows the policy has not passed, so such an
  -- index serves no query of a tenant: not lower(), LIKE, enum, numeric, jsonb, arrays, text search.
  return query
  select 'index-unusable', i.relation::text, 'TC12',
    format('No policy lets a query use %s beyond its tenant: %s is not leakproof.', x.indexrelid::regclass, pg_get_indexdef(x.indexrelid, n + 1, true)),
    format('Index a stored generated column (%s) led by %I, with a type whose comparison is leakproof: text, uuid, int, timestamptz.',
      pg_get_indexdef(x.indexrelid, n + 1, true), i.tenant_column)
  from tenantry.table_isolation as i
  join pg_index as x on x.indrelid = i.relation
  cross join lateral generate_series(0, x.indnkeyatts - 1) as n
  join pg_opclass as o on o.oid = x.indclass[n]
  where i.mode = 'isolated' and not exists (select from pg_inherits where inhrelid = i.relation)
    and (x.indkey[n] = 0 or o.opcname like '%pattern_ops' or exists (
      select from pg_amop as m join pg_operator as op on op.oid = m.amopopr join pg_proc as p on p.oid = op.oprcode
      where m.amopfamily = o.opcfamily and m.amoplefttype = o.opcintype and m.amoprighttype = o.opcintype and not p.proleakproof));
end
$$;

-- check_v1 about what else reads isolated tables: TC2x.
create or replace function tenantry.check_readers()
returns table (name text, object text, code text, explanation text, fix text) language plpgsql stable as $$
begin
  return query
  select distinct 'view-with-owners-rights', seen::text, 'TC20', 'This view reads a tenant''s rows with its owner''s rights, not its caller''s.',
    format('alter view %s set (security_invoker = true);', seen)
  from tenantry.confined_tables() as confined(relation)
  cross join lateral unnest(tenantry.views_of(confined.relation)) as seen
  join pg_class as v on v.oid = seen
  where not coalesce(v.reloptions && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false);

  return query
  select distinct 'materialized-view-open', seen::text, 'TC21', 'This materialized view holds every tenant''s rows, and tenants may read it.',
    format('revoke all on %s from public, tenantry_tenant;', seen)
  from tenantry.confined_tables() as confined(relation) cross join lateral unnest(tenantry.views_of(confined.relation, 'm')) as seen
  where has_table_privilege('tenantry_tenant', seen::oid, 'select');

  return query
  select 'function-above-isolation', p.oid::regprocedure::text, 'TC22',
    format('This function runs as %I, whom no policy holds, and tenants may call it.', pg_get_userbyid(p.proowner)),
    format('revoke execute on function %s from public, tenantry_tenant; -- or let the tables'' owner own it', p.oid::regprocedure)
  from pg_proc as p join pg_roles as r on r.oid = p.proowner
  join pg_namespace as n on n.oid = p.pronamespace
  where p.prosecdef and (r.rolsuper or r.rolbypassrls or pg_has_role(r.oid, 'tenantry_bypass', 'usage')) and n.nspname not in ('pg_catalog', 'information_schema', 'tenantry')
    and has_function_privilege('tenantry_tenant', p.oid, 'execute')
    and has_schema_privilege('tenantry_tenant', n.oid, 'usage');

  return query
  select distinct 'sequence-readable', s::text, 'TC23', 'Tenants may read this sequence, which tells how much all of them write.',
    format('revoke select on sequence %s from public, tenantry_tenant;', s)
  from tenantry.table_isolation as i cross join lateral unnest(tenantry.sequences_of(i.relation)) as s
  where i.mode = 'isolated' and has_sequence_privilege('tenantry_tenant', s::oid, 'select');

  return query
  select distinct 'sequence-not-granted', s::text, 'TC24', 'Tenants may not draw from this sequence: their inserts fail.',
    format('grant usage on sequence %s to tenantry_tenant;', s)
  from tenantry.table_isolation as i cross join lateral unnest(tenantry.sequences_of(i.relation)) as s
  where i.mode in ('isolated', 'write') and not has_sequence_privilege('tenantry_tenant', s::oid, 'usage')
    -- an identity column draws without a grant
    and not exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = s::oid and d.deptype = 'i');

  return query
  select 'published', i.relation::text, 'TC25', format('Publication %I sends every tenant''s rows to its subscribers.', b.pubname),
    'Make sure that each subscriber isolates them again.'
  from tenantry.table_isolation as i
  join pg_class as c on c.oid = i.relation
  join pg_publication as b on b.puballtables
    or exists (select from pg_publication_rel as r where r.prpubid = b.oid and r.prrelid = i.relation)
    or exists (select from pg_publication_namespace as s where s.pnpubid = b.oid and s.pnnspid = c.relnamespace)
  where i.mode = 'isolated';
end
$$;

-- check_v1 about roles: TC3x.
create or replace function tenantry.check_roles()
returns table (name text, object text, code text, explanation text, fix text) language plpgsql stable as $$
begin
  return query
  with recursive granted(member) as (
    select m.member from pg_auth_members as m where m.roleid = 'tenantry_app'::regrole
    union select m.member from pg_auth_members as m join granted on m.roleid = granted.member
  )
  select 'login-above-isolation', quote_ident(r.rolname), 'TC30', 'The app may log in as this role, and no policy holds it where a tenant is not set.',
    format('alter role %I nosuperuser nobypassrls; -- or let the app log in as another role', r.rolname)
  from granted join pg_roles as r on r.oid = granted.member
  where r.rolcanlogin and (r.rolsuper or r.rolbypassrls);

  -- Who holds it through such a role is not named: mending the one mends the others.
  return query
  select distinct 'bypass-inherited', quote_ident(r.rolname), 'TC31', format('This role has the rights of %s without asking for them.', above.name),
    case when r.rolname not in ('tenantry_gate', 'tenantry_owner_gate') then format('revoke %s from %I;', above.name, r.rolname)
      when current_setting('server_version_num')::integer >= 160000 then format('grant %s to %I with inherit false;', above.name, r.rolname)
      else format('alter role %I noinherit;', r.rolname) end
  from (values ('tenantry_bypass'), ('tenantry_owner')) as above(name)
  join pg_auth_members as m on m.roleid = above.name::regrole
  join pg_roles as r on r.oid = m.member
  where not r.rolsuper and pg_has_role(r.oid, above.name, 'usage');

  return query
  select 'function-open', p.oid::regprocedure::text, 'TC32', 'Everybody may call this function of tenantry, inside a tenant too.',
    format('revoke execute on function %s from public;', p.oid::regprocedure)
  from pg_proc as p
  where p.pronamespace = 'tenantry'::regnamespace
    and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as g where g.grantee = 0 and g.privilege_type = 'EXECUTE');

  return query
  select 'schema-open', quote_ident(n.nspname), 'TC33', 'Tenants may create objects here, which the unqualified names of others then find.',
    format('revoke create on schema %I from public, tenantry_tenant;', n.nspname)
  from pg_namespace as n
  where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and has_schema_privilege('tenantry_tenant', n.oid, 'create');
end
$$;

-- check_v1 about tables: TC0x.
create or replace function tenantry.check_tables()
returns table (name text, object text, code text, explanation text, fix text) language plpgsql stable as $$
begin
  -- Migration tools' own tables count as bookkeeping while no tenant can reach them, and so do those of a move.
  return query
  select 'table-unclassified', c.oid::regclass::text, 'TC01', 'This table is neither isolated nor shared.',
    format('select tenantry.isolate_table_v1(%L); -- or: select tenantry.share_table_v1(%1$L, ''read'');', c.oid::regclass)
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'f')
    and n.nspname not in ('pg_catalog', 'information_schema', 'tenantry') and n.nspname !~ '^pg_(toast|temp)'
    and not exists (select from tenantry.table_isolation as i where i.relation = c.oid)
    and not exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    and not exists (select from pg_inherits as h join tenantry.table_isolation as i on i.relation = h.inhparent where h.inhrelid = c.oid)
    and not ((n.nspname = 'tenantry_adopt' or c.relname in ('alembic_version', '_prisma_migrations', '__drizzle_migrations', 'schema_migrations', 'django_migrations'))
             and not has_table_privilege('tenantry_tenant', c.oid, 'select, insert, update, delete'));

  return query
  select 'isolation-off', i.relation::text, 'TC02', 'Row level security is not on, or not forced: the owner sees every tenant.',
    format('alter table %s enable row level security, force row level security;', i.relation)
  from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
  where i.mode = 'isolated' and not (c.relrowsecurity and c.relforcerowsecurity);

  return query
  select 'policy-changed', i.relation::text, 'TC03',
    'A policy of the isolation is missing, was changed, or does not hold for the table''s owner.',
    tenantry.isolation_statement(i)
  from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
  where i.mode = 'isolated' and not tenantry.isolation_holds(i);

  return query
  select 'stray-policy', p.polrelid::regclass::text, 'TC04',
    format('Policy %I is not Tenantry''s. It cannot widen the isolation, but it may open the table to roles outside it.', p.polname),
    format('drop policy %I on %s;', p.polname, p.polrelid::regclass)
  from pg_policy as p join tenantry.table_isolation as i on i.relation = p.polrelid
  where i.mode = 'isolated' and p.polpermissive and p.polname not in ('tenantry_access', 'tenantry_bypass');

  return query
  select 'partition-open', h.inhrelid::regclass::text, 'TC05', format('A partition or child of %s that is not isolated itself.', i.relation),
    tenantry.isolation_statement(i)
  from tenantry.table_isolation as i join pg_inherits as h on h.inhparent = i.relation
  where i.mode = 'isolated' and not exists (select from tenantry.table_isolation as child where child.relation = h.inhrelid and child.mode = 'isolated');

  return query
  select 'tenant-column-loose', i.relation::text, 'TC06', format('%I may be null or has no default of the current tenant.', i.tenant_column),
    tenantry.isolation_statement(i)
  from tenantry.table_isolation as i
  join pg_attribute as a on a.attrelid = i.relation and a.attname = i.tenant_column
  left join pg_attrdef as f on f.adrelid = a.attrelid and f.adnum = a.attnum
  where i.mode = 'isolated' and not exists (select from pg_inherits where inhrelid = i.relation)
    and (not a.attnotnull or coalesce(pg_get_expr(f.adbin, f.adrelid) !~ 'current_(tenant|org)_id\(\)', true));

  return query
  select 'no-tenant-index', i.relation::text, 'TC07', format('No index begins with %I: every query reads every tenant''s rows.', i.tenant_column),
    format('create index %s on %s (%I);', case c.relkind when 'p' then '' else 'concurrently' end, i.relation, i.tenant_column)
  from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
  where i.mode = 'isolated' and not exists (
    select from pg_index as x join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = x.indkey[0]
    where x.indrelid = i.relation and a.attname = i.tenant_column and x.indpred is null and x.indisvalid);

  return query
  select 'truncate-granted', i.relation::text, 'TC08', format('%s may TRUNCATE, which asks no policy.', who.name),
    format('revoke truncate on %s from %s;', i.relation, who.name)
  from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
  cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as g
  cross join lateral (select case when g.grantee = 0 then 'public' else g.grantee::regrole::text end) as who(name)
  where i.mode in ('isolated', 'read') and g.privilege_type = 'TRUNCATE';

  return query
  select 'shared-names-a-tenant', i.relation::text, 'TC09', 'This table is shared by all tenants, yet it refers to a tenant or to a tenant''s rows.',
    format('select tenantry.isolate_table_v1(%L);', i.relation)
  from tenantry.table_isolation as i
  where i.mode in ('read', 'write') and exists (
    select from pg_constraint as k
    where k.conrelid = i.relation and k.contype = 'f' and (k.confrelid = 'tenantry.tenants'::regclass
       or k.confrelid in (select there.relation from tenantry.table_isolation as there where there.mode = 'isolated')));
end
$$;

-- Everything wrong with the isolation, a row each: name, object, code, explanation, and the statement that mends it.
-- No row: every table is isolated or shared, and nothing reaches around. Reads the catalogs alone; may be called by
-- tenantry_app, in CI and from monitoring.
create or replace function tenantry.check_v1()
returns table (name text, object text, code text, explanation text, fix text) language sql stable as $$
  select * from tenantry.check_tables()
  union all select * from tenantry.check_keys()
  union all select * from tenantry.check_readers()
  union all select * from tenantry.check_followers()
  union all select * from tenantry.check_roles()
  order by code, object
$$;

-- The object under `key`; {} where it is absent, null or something else (Clerk sends both for empty metadata).
create or replace function tenantry.clerk_object(object jsonb, key text)
returns jsonb language sql immutable parallel safe as $$
  select case when jsonb_typeof(object -> key) = 'object' then object -> key else '{}' end
$$;

-- An object's version: its updated_at in ms (clerk_time reads both units), else created_at, else 0.
create or replace function tenantry.clerk_revision(object jsonb)
returns bigint language plpgsql stable parallel safe as $$
declare
  at timestamptz := tenantry.clerk_time(object -> 'updated_at');
begin
  if at is null then
    at := tenantry.clerk_time(object -> 'created_at');
  end if;
  return coalesce((extract(epoch from at) * 1000)::bigint, 0);
end
$$;

-- The text under `key`, or null where it is absent, null, empty or no string.
create or replace function tenantry.clerk_text(object jsonb, key text)
returns text language sql immutable parallel safe as $$
  select case when jsonb_typeof(object -> key) = 'string' then nullif(object ->> key, '') end
$$;

-- The strings of the array under `key`, sorted; null where there is no array.
create or replace function tenantry.clerk_texts(object jsonb, key text)
returns text[] language plpgsql immutable parallel safe as $$
begin
  if jsonb_typeof(object -> key) = 'array' then
    return array(
      select distinct element #>> '{}' from jsonb_array_elements(object -> key) as element
      where jsonb_typeof(element) = 'string' order by 1);
  end if;
  return null;
end
$$;

-- A time of Clerk's JSON: milliseconds, or seconds where the number is small enough to be only that
-- (Clerk's documents and examples use both). Anything that is not a number is null.
create or replace function tenantry.clerk_time(value jsonb)
returns timestamptz language plpgsql immutable parallel safe as $$
declare
  number numeric;
begin
  if jsonb_typeof(value) = 'number' then
    number := value::numeric;
    return to_timestamp(case when abs(number) < 1e11 then number else number / 1000 end::double precision);
  end if;
  return null;
end
$$;

-- The names of a table's columns by their numbers, as an array and, quoted, as a list.
create or replace function tenantry.columns_of(relation regclass, numbers smallint[], out names name[], out list text)
language sql stable as $$
  select array_agg(a.attname order by c.place), string_agg(quote_ident(a.attname), ', ' order by c.place)
  from unnest(numbers) with ordinality as c(number, place)
  join pg_attribute as a on a.attrelid = relation and a.attnum = c.number
$$;

-- Makes every view that reads a table one that reads it with its caller's rights, and lets tenants and the bypass
-- read it: it shows nobody more than the tables do. Views of another owner are left to check_v1.
create or replace function tenantry.confine_views(relation regclass)
returns void language plpgsql as $$
declare
  reading regclass;
begin
  foreach reading in array tenantry.views_of(relation) loop
    if pg_has_role((select relowner from pg_class where oid = reading), 'usage') then
      execute format('alter view %s set (security_invoker = true)', reading);
      execute format('grant select on %s to tenantry_tenant, tenantry_bypass', reading);
    end if;
  end loop;
end
$$;

-- The tables that a tenant sees in part: the app's isolated ones, and those of the mirror.
create or replace function tenantry.confined_tables()
returns setof regclass language sql stable as $$
  select i.relation from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation where i.mode = 'isolated'
  union all
  select c.oid::regclass from pg_class as c where c.relnamespace = 'tenantry'::regnamespace and c.relkind = 'r' and c.relrowsecurity
$$;

-- Has a table that follows copy these organizations, whose rows the caller has locked: all at once, or else one by one.
-- Answers how many it took; of the others it notes why not. After a lock that was not to be had, or half a second, what
-- is left waits for the next time: whoever changed the organizations is waiting too.
create or replace function tenantry.copy_to_follower(follower tenantry.followers, organizations tenantry.tenants[])
returns integer language plpgsql as $$
declare
  deadline constant timestamptz := clock_timestamp() + interval '0.5 s';
  refusal  tenantry.follower_gaps := tenantry.hand_over(follower, organizations);
  refused  boolean := refusal.code is not null;
  late     boolean := coalesce(refusal.code = '55P03', false);
  taken    uuid[] := case when refused then '{}' else array(select o.id from unnest(organizations) as o) end;
  one      tenantry.tenants;
begin
  foreach one in array case when refused then organizations else '{}' end loop
    if not late and cardinality(organizations) > 1 then
      refusal := tenantry.hand_over(follower, array[one]);
      refused := refusal.code is not null;
      late := coalesce(refusal.code = '55P03', false) or clock_timestamp() > deadline;
    else
      refused := true;
    end if;
    if refused then
      insert into tenantry.follower_gaps as g (relation, tenant_id, attempts, code, object, at)
      values (follower.relation, one.id, 1, refusal.code, refusal.object, clock_timestamp())
      on conflict (relation, tenant_id) do update set
        attempts = g.attempts + 1, code = excluded.code, object = excluded.object, at = excluded.at;
    else
      taken := taken || one.id;
    end if;
  end loop;
  delete from tenantry.follower_gaps as g where g.relation = follower.relation and g.tenant_id = any (taken);
  return cardinality(taken);
end
$$;

-- Has every table that follows copy these organizations, whose rows the caller has locked.
create or replace function tenantry.copy_to_followers(organizations tenantry.tenants[])
returns void language plpgsql as $$
declare
  follower tenantry.followers;
begin
  for follower in
    select f.* from tenantry.followers as f join pg_class as c on c.oid = f.relation order by f.relation
  loop
    perform tenantry.copy_to_follower(follower, organizations);
  end loop;
end
$$;

-- What the changes of this transaction are due to: see state_cause. 'sql' where somebody writes by hand.
create or replace function tenantry.current_cause()
returns text language sql stable as $$
  select coalesce(nullif(current_setting('tenantry.cause', true), ''), 'sql')
$$;

-- What set_tenant_v1 or set_tenant_by_id_v1 answered in this transaction; TY001 without a tenant.
create or replace function tenantry.current_context()
returns jsonb language plpgsql stable parallel safe as $$
begin
  perform tenantry.current_tenant_id();
  return nullif(pg_catalog.current_setting('tenantry.context', true), '');
end
$$;

-- Which delivery of this transaction told about which object, or {}: see state_cause.
create or replace function tenantry.current_deliveries()
returns jsonb language sql stable as $$
  select coalesce(nullif(current_setting('tenantry.deliveries', true), ''), '{}')::jsonb
$$;

-- The Clerk organization of this transaction; TY001 without a tenant, TY040 in a personal account.
create or replace function tenantry.current_org_id()
returns text language plpgsql stable parallel safe as $$
declare
  id constant text := pg_catalog.current_setting('tenantry.org_id', true);
begin
  if id is null or id operator(pg_catalog.=) '' then
    perform tenantry.current_tenant_id();
    perform tenantry.raise_error('TY040');
  end if;
  return id;
end
$$;

-- The tenant of this transaction; TY001 without one. For policies, defaults and queries. No SET clause and plain
-- plpgsql: as an index condition it runs once a scan, and policies wrap it in a scalar subselect besides.
create or replace function tenantry.current_tenant_id()
returns uuid language plpgsql stable parallel safe as $$
declare
  id constant text := pg_catalog.current_setting('tenantry.tenant_id', true);
begin
  if id is null or id operator(pg_catalog.=) '' then  -- '' is what a local setting leaves behind
    perform tenantry.raise_error('TY001');
  end if;
  return id::pg_catalog.uuid;
end
$$;

-- The Clerk user this transaction acts for; null where the app itself acts; TY001 without a tenant.
create or replace function tenantry.current_user_id()
returns text language plpgsql stable parallel safe as $$
begin
  perform tenantry.current_tenant_id();
  return nullif(pg_catalog.current_setting('tenantry.user_id', true), '');
end
$$;

-- A tenant's id, from instance and Clerk id alone, so that a replica can serve an organization before its row
-- arrives. Version 8 of RFC 9562: 122 bits of sha256.
create or replace function tenantry.derive_tenant_id(instance_id text, clerk_id text)
returns uuid language plpgsql immutable parallel safe as $$
declare
  digest bytea := substring(sha256(convert_to(coalesce(instance_id, '') || ':' || clerk_id, 'UTF8')) for 16);
begin
  digest := set_byte(digest, 6, (get_byte(digest, 6) & 15) | 128);
  digest := set_byte(digest, 8, (get_byte(digest, 8) & 63) | 128);
  return encode(digest, 'hex')::uuid;
end
$$;

-- A row of the mirror as the feed shows it: its content, without the merge columns; of a user or an
-- invited person, nothing personal.
create or replace function tenantry.describe(subject text, mirrored jsonb)
returns jsonb language sql stable parallel safe as $$
  select case
    when subject = 'user' then jsonb_build_object('banned', mirrored -> 'banned')
    else mirrored - '{revision,observed_at,content_hash,last_seen,last_absent,deleted_at,needs_refetch,ended_at,purged_at,image_url,email_address}'::text[]
  end
$$;

-- The context of the app itself in a tenant: no user, no role, every permission.
create or replace function tenantry.describe_app(tenant tenantry.tenants)
returns jsonb language sql stable parallel safe as $$
  select jsonb_build_object('tenant_id', tenant.id, 'org_id', tenant.clerk_org_id, 'slug', tenant.slug, 'name', tenant.name,
    'user_id', null, 'role', null, 'role_source', 'app', 'permissions', null, 'system_permissions', null, 'app_permissions', null)
$$;

-- The context of a decision: who acts where, as what, and what that permits.
--
-- `permissions` are the token's while it lasts and its role holds as it was; where the mirror has another role for the
-- member, or a newer definition of the role, those of the mirrored role, limited to the features the token's plan has.
-- `system_permissions` (`org:sys_*`) are never in a token and always the mirrored role's. `app_permissions` are the
-- app's own map; a personal account has no role, and its owner may do everything in it.
--
-- shown:  the permissions Clerk showed with the membership, for a role whose definition the mirror has not seen
-- issued: when the token was, while it lasts and its role holds; else null
create or replace function tenantry.describe_context(
  facts tenantry.identity_facts, tenant tenantry.tenants, user_id text, role text, shown text[], issued timestamptz)
returns jsonb language plpgsql stable as $$
declare
  granted     tenantry.role_grants;
  permissions jsonb;
  from_token  boolean;
begin
  select * into granted from tenantry.role_grants as g where g.role = describe_context.role;
  if granted.permissions is null and shown is not null then
    granted.permissions := to_jsonb(array(select p from unnest(shown) as p where p not like 'org:sys\_%' order by p));
    granted.system_permissions := to_jsonb(array(select p from unnest(shown) as p where p like 'org:sys\_%' order by p));
  end if;
  from_token := issued is not null and (granted.observed_at is null or issued > granted.observed_at);
  if from_token then
    permissions := case jsonb_typeof(facts.permissions) when 'array' then facts.permissions end;
  elsif jsonb_typeof(facts.features) = 'array' then
    permissions := to_jsonb(array(
      select p from jsonb_array_elements_text(granted.permissions) as p where facts.features ? split_part(p, ':', 2)));
  else
    permissions := granted.permissions;
  end if;
  return jsonb_build_object(
    'tenant_id', tenant.id,
    'org_id', coalesce(tenant.clerk_org_id, nullif(facts.org_id, '')),
    'slug', coalesce(tenant.slug, nullif(facts.org_slug, '')),
    'name', tenant.name,
    'user_id', user_id,
    'role', role,
    'role_source', case when from_token then 'token' else 'mirror' end,
    'permissions', coalesce(permissions, '[]'),
    'system_permissions', coalesce(granted.system_permissions, '[]'),
    'app_permissions', case when tenant.clerk_user_id is null then coalesce(granted.app_permissions, '[]') else '["*"]' end);
end
$$;

-- A membership as the feed shows it: see describe.
create or replace function tenantry.describe_member(m tenantry.tenant_memberships)
returns jsonb language sql stable parallel safe as $$
  select jsonb_build_object('id', m.id, 'tenant_id', m.tenant_id, 'user_id', m.user_id, 'role', m.role,
    'permissions', m.permissions, 'public_metadata', m.public_metadata, 'created_at', m.created_at)
$$;

-- Deletes dead letters and refused deliveries that nobody will be able to read: {"discarded": [message ids]}. Others stay
-- (forget_events_v1 is for those), and an id that is none is left out. One that comes again is a new delivery.
--
-- Who may call: tenantry_app. Locks: message ids in order, as recording and replaying do.
create or replace function tenantry.discard_letters_v1(ids text[])
returns jsonb language sql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
  select pg_advisory_xact_lock(hashtext('tenantry.message'), bucket)
  from (select distinct hashtext(message_id) as bucket from unnest(ids) as message_id order by 1) as locks;
  with discarded as (
    delete from tenantry.webhook_events where message_id = any (ids) and outcome in ('failed', 'refused') returning message_id
  )
  select jsonb_build_object('discarded', coalesce(jsonb_agg(message_id order by message_id), '[]')) from discarded
$$;

-- Takes a table out of isolation: policies, row level security and grants go; the column, its index and the foreign
-- key stay. Every tenant's rows are then open to whoever has rights on the table: check_v1 says so.
-- Who may call: the table's owner, without a tenant.
create or replace function tenantry.drop_isolation_v1(relation regclass)
returns jsonb language plpgsql as $$
declare
  parts constant regclass[] := relation || tenantry.partitions_of(relation);
  isolation tenantry.table_isolation;
  owner     name;
  part      regclass;
begin
  perform tenantry.refuse_second_context();
  select i.* into isolation from tenantry.table_isolation as i where i.relation = drop_isolation_v1.relation and i.mode = 'isolated';
  select pg_get_userbyid(c.relowner) into owner from pg_class as c where c.oid = relation;
  if isolation.relation is null then
    perform tenantry.raise_error('TY030', format('%s is not isolated', coalesce(relation::text, 'null')));
  elsif not pg_has_role(owner, 'usage') then
    perform tenantry.raise_error('TY030', format('%s belongs to %I: only its owner may do this, and you are %I', relation, owner, current_user));
  end if;
  foreach part in array parts loop
    perform tenantry.register_isolation(part, null);
  end loop;
  foreach part in array parts loop
    perform tenantry.remove_policies(part);
    execute format('alter table %s no force row level security', part);
    execute format('alter table %s disable row level security', part);
    perform tenantry.grant_table(part, 'none');
    execute format('alter table %s alter column %I drop default', part, isolation.tenant_column);
  end loop;
  return jsonb_build_object('table', relation);
end
$$;

-- Empties letters of the inbox, and answers how many held something. A dead letter of which nothing is left cannot be
-- replayed: it is ignored from now on, and forgotten with the others.
create or replace function tenantry.empty_letters(ids text[])
returns bigint language plpgsql as $$
declare
  emptied bigint;
begin
  update tenantry.webhook_events as e set data = null, body = null,
    outcome = case e.outcome when 'failed' then 'ignored' else e.outcome end,
    error_code = case when e.outcome <> 'failed' then e.error_code end,
    error = case when e.outcome <> 'failed' then e.error end
  where e.message_id = any (ids) and (e.data is not null or e.body is not null);
  get diagnostics emptied = row_count;
  return emptied;
end
$$;

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

-- Ends the bypass and restores the role of before, so that a migration can go on with DDL.
create or replace function tenantry.end_bypass_v1()
returns jsonb language plpgsql as $$
begin
  if current_setting('role') <> 'tenantry_bypass' then
    perform tenantry.raise_error('TY010', 'no bypass is open');
  end if;
  perform set_config('role', coalesce(nullif(current_setting('tenantry.bypass_from', true), ''), 'none'), true),
          set_config('tenantry.bypass_reason', '', true);
  return '{}';
end
$$;

-- Makes the end of a tenant final before its rows are deleted: no late event and no listing revives it.
--
-- returns: {"tenant_id", "org_id", "user_id", "ended": true, "purged_at"}; "ended": false, and nothing done, while it lives
-- raises:  TY020 where no tenant has this id, ours or Clerk's
--
-- A personal account has ended when its user's end is final: by a deletion, or by erase_user_v1. One whom a listing
-- lacked may come back. Who may call: tenantry_app. Locks: as merging does a tenant that may come back.
create or replace function tenantry.end_tenant_v1(id text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  dry    constant boolean := coalesce(options -> 'dry_run' = 'true', false);
  tenant tenantry.tenants := tenantry.find_tenant(id);
  ended  timestamptz;
begin
  if not dry then
    perform tenantry.lock_tenant(tenant.id);
    tenant := tenantry.find_tenant(id);  -- as it is now: an event may have revived it meanwhile
  end if;
  ended := coalesce(tenant.ended_at, (select u.deleted_at from tenantry.users as u where u.id = tenant.clerk_user_id));
  if ended is not null and tenant.deleted_at is null and not dry then
    update tenantry.tenants as t set deleted_at = ended where t.id = tenant.id;
  end if;
  return jsonb_build_object('tenant_id', tenant.id, 'org_id', tenant.clerk_org_id, 'user_id', tenant.clerk_user_id,
    'ended', ended is not null, 'purged_at', tenant.purged_at);
end
$$;

-- Whether a row of the feed can mean that somebody may do less than before. Who joins, and what has another name, cannot.
create or replace function tenantry.ends_access(kind text, before jsonb, after jsonb)
returns boolean language sql immutable parallel safe as $$
  select kind in ('member.left', 'member.role_changed', 'tenant.deleted', 'user.deleted')
    or kind = 'member.updated' and before -> 'permissions' is distinct from after -> 'permissions'
    or kind = 'user.updated' and after -> 'banned' = 'true' and before -> 'banned' is distinct from 'true'
    or kind in ('role.created', 'role.updated', 'role.deleted', 'permission.updated', 'permission.deleted')
$$;

-- Row level security for one table, on and forced, with these policies, made anew:
--   tenantry_isolation   restrictive: rows of the current tenant alone; a stray permissive policy cannot widen it
--   tenantry_access      permissive: without one the restrictive policy never runs, and a query without a tenant would
--                        get no rows instead of an error
--   tenantry_bypass      permissive, for transactions across tenants
--   tenantry_may_<cmd>   restrictive: the member's permission
-- For tenantry_tenant, which the app's logins inherit, and for the owner, who would get silence instead of an error.
create or replace function tenantry.enforce_isolation(relation regclass, tenant_column name, tenant_key text, permissions jsonb)
returns void language plpgsql as $$
declare
  owner     constant text := (select quote_ident(pg_get_userbyid(relowner)) from pg_class where oid = relation);
  confined  constant text := 'tenantry_tenant, ' || owner;
  predicate constant text := tenantry.isolation_predicate(tenant_column, tenant_key);
  command   text;
  check_of  text;
begin
  perform tenantry.remove_policies(relation);
  execute format('alter table %s enable row level security', relation);
  execute format('alter table %s force row level security', relation);
  execute format('create policy tenantry_isolation on %s as restrictive for all to %s using (%s) with check (%3$s)', relation, confined, predicate);
  execute format('create policy tenantry_access on %s for all to %s using (true) with check (true)', relation, confined);
  execute format('create policy tenantry_bypass on %s for all to tenantry_bypass using (true) with check (true)', relation);
  for command in select jsonb_object_keys(permissions) order by 1 loop
    check_of := format('(select tenantry.%s(%L))',
      case when permissions ->> command like 'org:%' then 'has_permission' else 'can' end, permissions ->> command);
    execute format('create policy tenantry_may_%1$s on %2$s as restrictive for %1$s to %3$s %4$s', command, relation, confined,
      case command when 'insert' then format('with check (%s)', check_of) else format('using (%s)', check_of) end);
  end loop;
end
$$;

-- Begins the transaction in which a consumer deals with a change: moves the consumer on to it (advance_consumer_v1) and
-- enters the tenant that the change concerns, for the app itself. The feed tells what was, so that an organization that
-- has been deleted since is entered as well. A change that concerns no tenant, or one that has been
-- purged since, leaves the transaction without one.
--
-- options: as advance_consumer_v1; "timeout": for how many ms a statement may run, or the transaction do nothing, before
--          the server ends it; from PostgreSQL 17 on also when all of it has taken twice as long,
--          save where the login has a transaction_timeout of its own: PostgreSQL starts that clock once
-- returns: as advance_consumer_v1; where it answers {"taken": true}, no tenant is entered
--
-- Who may call: tenantry_app, as the first statement of a transaction. Raises TY002, TY003, TY010.
create or replace function tenantry.enter_change_v1(consumer text, pos bigint, options jsonb)
returns jsonb language plpgsql as $$
declare
  answer jsonb;
begin
  perform tenantry.refuse_second_context();
  if coalesce(options ->> 'timeout', '1') !~ '^[1-9]\d{0,8}$' then
    perform tenantry.raise_error('TY010', 'timeout is a whole number of milliseconds');
  end if;
  -- Where the server knows it, and the login's own is not shorter.
  perform set_config(name, most::text, true)
  from (values ('statement_timeout', 1), ('idle_in_transaction_session_timeout', 1), ('transaction_timeout', 2)) as known(name, times)
  cross join lateral (select times * (options ->> 'timeout')::bigint as most) as wanted
  where options ? 'timeout'
    and current_setting(name, true)::interval not between interval '1 ms' and most * interval '1 ms';
  answer := tenantry.advance_consumer_v1(consumer, pos, options);
  if jsonb_typeof(answer -> 'context') = 'object' then
    raise log 'tenantry: tenant % set by id: change % for consumer %', answer #>> '{context,tenant_id}', pos, consumer;
    perform tenantry.enter_tenant(answer -> 'context');
  end if;
  return answer;
end
$$;

-- Makes a context that of this transaction and switches to the role tenantry_tenant. Everything it sets is local to
-- the transaction, so nothing is left on a pooled connection. `null` permissions: all (the app itself acts).
create or replace function tenantry.enter_tenant(context jsonb)
returns jsonb language plpgsql as $$
begin
  perform
    tenantry.refuse_leftovers(),
    set_config('tenantry.tenant_id', context ->> 'tenant_id', true),
    set_config('tenantry.org_id', coalesce(context ->> 'org_id', ''), true),
    set_config('tenantry.user_id', coalesce(context ->> 'user_id', ''), true),
    set_config('tenantry.context', context::text, true),
    set_config('role', 'tenantry_tenant', true);
  return context;
end
$$;

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

-- The likely cause of each drift, from the inbox: [{"id": "<Clerk id>", "changed_at": <ms or null>}, ...] ->
-- {"<id>": "failed" | "on its way" | "unknown" | "forgotten or never received" | "never received", ...}
--   failed          an event about it became a dead letter
--   on its way      it changed at Clerk within the last two minutes: the event may come yet
--   unknown         an event about it came after the change, and yet the mirror differs
--   forgotten or never received  it changed before the time up to which deliveries were forgotten
--   never received  no event about it came
-- Who may call: tenantry_app.
create or replace function tenantry.explain_drift_v1(drift jsonb, observed_at bigint)
returns jsonb language plpgsql stable security definer
set search_path = pg_catalog, tenantry, pg_temp set jit = off
as $$
begin
  return (
    with drifted as materialized (
      select d ->> 'id' as id, max(tenantry.clerk_time(d -> 'changed_at')) as changed_at
      from jsonb_array_elements(drift) as d group by 1
    ), told as materialized (
      select e.data #>> '{data,id}' as id, max(e.occurred_at) as at
      from tenantry.webhook_events as e
      where e.outcome in ('applied', 'stale') and e.received_at >= (select min(coalesce(changed_at, '-infinity')) from drifted)
        and e.data #>> '{data,id}' in (select id from drifted)
      group by 1
    )
    select coalesce(jsonb_object_agg(d.id, case
      when exists (select from tenantry.webhook_events as e where e.outcome = 'failed'
                   and (e.data #>> '{data,id}' = d.id or strpos(e.body, d.id) > 0)) then 'failed'
      when d.changed_at > to_timestamp(observed_at / 1000.0) - interval '2 minutes' then 'on its way'
      when t.at >= d.changed_at then 'unknown'
      when d.changed_at < (select r.before from tenantry.retention as r) then 'forgotten or never received'
      else 'never received' end), '{}')
    from drifted as d left join told as t on t.id = d.id);
end
$$;

-- Notes that a consumer's handler failed at a change; after too many times in a row it is parked.
--
-- pos:     the change's
-- options: {"error": "<what went wrong>", "attempts": <when it is parked, default 10>, "backoff": <seconds before the
--           second attempt, default 1; they double, up to five minutes>}
-- returns: {"attempts": n, "parked": true or false}; {"attempts": 0, "parked": false} where somebody else is at the
--          consumer or has dealt with the change
--
-- Who may call: tenantry_app, after the transaction of the failed attempt.
create or replace function tenantry.fail_consumer_v1(consumer text, pos bigint, options jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  known   tenantry.consumers;
  count   integer;
  pause   interval;
  is_last boolean;
begin
  if coalesce(options ->> 'attempts', '1') !~ '^[1-9]\d{0,5}$' or coalesce(options ->> 'backoff', '0') !~ '^\d{1,5}(\.\d{1,6})?$' then
    perform tenantry.raise_error('TY010', 'attempts is a whole number from 1 on, backoff a number of seconds');
  end if;
  select * into known from tenantry.consumers as c
  where c.name = consumer and c.pos < fail_consumer_v1.pos and c.parked_at is null for no key update skip locked;
  if known.name is null then
    return jsonb_build_object('attempts', 0, 'parked', false);
  end if;
  count := known.attempts + 1;
  is_last := count >= coalesce((options ->> 'attempts')::integer, 10);
  pause := make_interval(secs => least(coalesce((options ->> 'backoff')::double precision, 1) * 2 ^ least(count - 1, 20), 300));
  update tenantry.consumers as c
  set failing = fail_consumer_v1.pos, attempts = count, error = left(options ->> 'error', 1000),
      retry_at = case when not is_last then clock_timestamp() + pause end,
      parked_at = case when is_last then clock_timestamp() end
  where c.name = consumer;
  return jsonb_build_object('attempts', count, 'parked', is_last);
end
$$;

-- Copies up to `most` organizations to each table that follows and does not have them as they are: those never tried
-- first, and of the others those tried before a time. Answers how many were copied.
-- Locks: the organizations' rows, passing over those that somebody is changing, who copies them then.
create or replace function tenantry.fill_gaps(most integer, before timestamptz default 'infinity')
returns integer language plpgsql as $$
declare
  copied   integer := 0;
  follower tenantry.followers;
  waiting  uuid[];
  chosen   tenantry.tenants[];
begin
  if not exists (select from tenantry.follower_gaps) then
    return 0;
  end if;
  for follower in
    select f.* from tenantry.followers as f join pg_class as c on c.oid = f.relation order by f.relation
  loop
    waiting := array(
      select g.tenant_id from tenantry.follower_gaps as g
      where g.relation = follower.relation and coalesce(g.at < before, true) order by g.attempts, g.tenant_id limit most);
    chosen := array(select t from tenantry.tenants as t where t.id = any (waiting) order by t.id for no key update skip locked);
    if cardinality(chosen) > 0 then
      copied := copied + tenantry.copy_to_follower(follower, chosen);
    end if;
  end loop;
  return copied;
end
$$;

-- The organizations whose live members in the mirror are not as many as Clerk says: {"org_1": 5, ...} -> ["org_1", ...].
-- A member swapped for another, or a changed role, does not show. Who may call: tenantry_app.
create or replace function tenantry.find_miscounted_v1(members jsonb)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(told.org_id order by told.org_id), '[]')
    from jsonb_each(members) as told(org_id, members)
    where jsonb_typeof(told.members) = 'number' and told.members::numeric <> (
      select count(*) from tenantry.members as m join tenantry.tenants as t on t.id = m.tenant_id
      where t.clerk_org_id = told.org_id));
end
$$;

-- The tenant of this id: ours, or Clerk's of an organization or user; TY020 where there is none.
create or replace function tenantry.find_tenant(id text)
returns tenantry.tenants language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  found_tenant tenantry.tenants;
begin
  select t.* into found_tenant from tenantry.tenants as t
  where t.clerk_org_id = find_tenant.id or t.clerk_user_id = find_tenant.id or t.id::text = lower(find_tenant.id);
  if found_tenant.id is null then
    perform tenantry.raise_error('TY020', format('tenant %s', id));
  end if;
  return found_tenant;
end
$$;

-- Snapshots of several objects, in key order and one of each object: the newest, with what all of them say about its
-- life, and in doubt where two of its revision differ. Pass null for `kept` and `shown`: they are variables, and plpgsql
-- names a polymorphic row type in no other way.
create or replace function tenantry.fold_snapshots(rows anyarray, kept anyelement, shown anyelement)
returns anyarray language plpgsql stable as $$
declare
  folded  rows%type;
  objects bigint;
begin
  if cardinality(rows) = 1 then
    return rows;
  end if;
  select array_agg(r order by r.id), count(distinct r.id) into folded, objects from unnest(rows) as r;
  if objects = cardinality(rows) then
    return folded;
  end if;
  folded := '{}';
  for shown in
    select * from unnest(rows) as r order by r.id, r.revision desc nulls last, r.observed_at desc nulls last, r.content_hash desc nulls last
  loop
    if shown.id = kept.id then
      kept.needs_refetch := coalesce(kept.needs_refetch, false)
        or coalesce(shown.revision > 0 and shown.revision = kept.revision and shown.content_hash <> kept.content_hash, false);
      kept.last_seen := greatest(kept.last_seen, shown.last_seen);
      kept.last_absent := greatest(kept.last_absent, shown.last_absent);
      kept.deleted_at := greatest(kept.deleted_at, shown.deleted_at);
    else
      if kept.id is not null then
        folded := folded || kept;
      end if;
      kept := shown;
    end if;
  end loop;
  return folded || kept;
end
$$;

-- AFTER INSERT or UPDATE of tenants, per statement: has the app's own tables of organizations follow. What fails there
-- fails nothing here: it is noted, and tried again with the next change of any organization.
create or replace function tenantry.follow_tenants()
returns trigger language plpgsql as $$
declare
  changed tenantry.tenants[];
begin
  if not exists (select from tenantry.followers) then
    return null;
  elsif tg_op = 'INSERT' then
    changed := array(select n from new_rows as n where n.clerk_org_id is not null order by n.id);
  else
    changed := array(
      select n from new_rows as n join old_rows as o on o.id = n.id
      where n.clerk_org_id is not null
        and (n.ended_at is null, n.content_hash, n.revision > 0) is distinct from (o.ended_at is null, o.content_hash, o.revision > 0)
      order by n.id);
  end if;
  if cardinality(changed) > 0 then
    perform tenantry.copy_to_followers(changed);
    perform tenantry.fill_gaps(10, before => now());
  end if;
  return null;
end
$$;

-- Keeps the app's own table of organizations in step with the mirror: from now on the transaction that changes a tenant
-- writes its row there too. A new organization gets a row, another name is carried over, and one that has ended is marked,
-- where a column for that is named; no row is deleted. Idempotent; run it again after ALTERs of the table.
--
-- options: {"org_id": "clerk_org_id",                 -- the column that holds Clerk's id: that one unless given
--           "columns": {"name": "name", "slug": "slug", "image_url": "logo", "created_at": "created_at",
--                       "updated_at": "updated_at", "deleted_at": "deleted_at"},  -- what is copied -> where; none else
--           "copy": "later"}                          -- what is there already is left to catch_up_v1
--          {} for a table that follows already: as it was told before
-- returns: {"table", "routine", "copied": n, "behind": how many its table refused: check_v1 says why}
-- raises:  TY030 where the table cannot follow, naming why; TY010 for options it does not know
--
-- What is written is written by a function of the table's owner, made here, beside the table: its rights, its triggers.
-- It sets the organization as the tenant, so that isolation lets it write that row and no other. `created_at` is
-- written into new rows alone; `updated_at` along with something else. A column that may not be null gets Clerk's id
-- where Clerk has nothing. What fails delays nothing and fails nothing: it is tried again at the next change.
--
-- Who may call: the table's owner, without a tenant. Locks: tenants (SHARE): webhooks wait until the transaction ends.
create or replace function tenantry.follow_tenants_v1(relation regclass, options jsonb default '{}')
returns jsonb language plpgsql as $$
declare
  known   tenantry.followers;
  writer  text;
  owner   name;
  grantee text;
  schema  regnamespace;
  copied  jsonb;
begin
  select f.* into known from tenantry.followers as f where f.relation = follow_tenants_v1.relation;
  if known.relation is null or options - 'copy' <> '{}' then
    known.org_column := coalesce(options ->> 'org_id', 'clerk_org_id');
    known.columns := coalesce(nullif(options -> 'columns', 'null'), '{}');
  end if;
  perform tenantry.check_follower_options(relation, options, known.org_column, known.columns);
  select pg_get_userbyid(c.relowner), c.relnamespace, format('%I.%I', n.nspname, left(c.relname, 40) || '_follow_tenants') into owner, schema, writer
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = relation;
  if exists (select from tenantry.followers as f where f.routine = writer and f.relation <> follow_tenants_v1.relation) then
    writer := writer || '_' || relation::oid;
  end if;
  if known.routine <> writer then  -- the table was renamed
    execute format('drop function if exists %s(jsonb)', known.routine);
  end if;
  execute format('drop function if exists %s(jsonb)', writer);
  execute tenantry.follower_routine(relation, writer, known.org_column, known.columns);
  execute format('alter function %s(jsonb) owner to %I', writer, owner);
  for grantee in
    select case when g.grantee = 0 then 'public' else g.grantee::regrole::text end
    from pg_proc as p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as g
    where p.oid = to_regprocedure(writer || '(jsonb)') and g.grantee <> p.proowner
  loop
    execute format('revoke all on function %s(jsonb) from %s', writer, grantee);
  end loop;
  execute format('grant execute on function %s(jsonb) to tenantry_owner', writer);
  if not has_schema_privilege('tenantry_owner', schema, 'usage') then
    if not has_schema_privilege(schema, 'usage with grant option') then
      perform tenantry.raise_error('TY030', format(
        'tenantry may not use the schema %s: its owner runs "grant usage on schema %1$s to tenantry_owner"', schema));
    end if;
    execute format('grant usage on schema %s to tenantry_owner', schema);
  end if;
  perform tenantry.register_follower(relation, writer, known.org_column, known.columns);
  copied := case when options ->> 'copy' = 'later' then '{"copied": 0}' else tenantry.catch_up_v1('{"limit": 999999}') end;
  return jsonb_build_object('table', relation, 'routine', writer, 'copied', copied -> 'copied',
    'behind', (select count(*) from tenantry.follower_gaps as g where g.relation = follow_tenants_v1.relation));
end
$$;

-- The statement that makes the function which writes a following table's rows, see follow_tenants_v1: it sets each
-- organization as the tenant, which hand_over takes back. Deferred constraints of the app are asked at once, so that
-- they refuse the copy, and not the commit of who merges.
create or replace function tenantry.follower_routine(relation regclass, routine text, org_column name, columns jsonb)
returns text language plpgsql stable as $$
declare
  schema   text;
  target   text;
  own      constant text := format('t.%I::text = o.org_id', org_column);
  places   text;
  values_  text;
  sets     text;
  differs  text;
  marks    text;
  unmarked text;
begin
  select format('%I', n.nspname), format('%I.%I', n.nspname, c.relname) into schema, target
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = relation;

  select string_agg(format(', %I', place), '' order by place), string_agg(', ' || fresh, '' order by place),
    string_agg(format('%I = %s', place, kept), ', ' order by place) filter (where what <> 'created_at'),
    string_agg(format('t.%I::text is distinct from (%s)::text', place, kept), E'\n          or ' order by place) filter (where what not in ('created_at', 'updated_at')),
    string_agg(format('%I = %s', place, case when flag then 'true' else 'o.' || what end), ', ' order by place)
      filter (where what in ('deleted_at', 'updated_at')),
    string_agg(format(case when flag then 't.%I is distinct from true' else 't.%I is null' end, place), '') filter (where what = 'deleted_at')
  into places, values_, sets, differs, marks, unmarked
  from (
    select c.key as what, c.value as place, c.flag,
      case when c.flag then 'false' when c.key = 'deleted_at' then 'null' when c.required then format('coalesce(o.%s, o.org_id)', c.key) else 'o.' || c.key end as fresh,
      case when c.flag then 'false' when c.key = 'deleted_at' then 'null' when c.required then format('coalesce(o.%s, t.%I::text)', c.key, c.value) else 'o.' || c.key end as kept
    from (select k.key, k.value, a.atttypid = 'boolean'::regtype as flag, a.attnotnull and k.key in ('name', 'slug', 'image_url') as required
          from jsonb_each_text(columns) as k join pg_attribute as a on a.attrelid = relation and a.attname = k.value) as c
  ) as written;

  return format('create or replace function %s(organizations jsonb)
returns void language plpgsql security definer
set search_path = pg_catalog, %s, pg_temp set timezone = ''UTC''
as $follow$
#variable_conflict use_column
declare
  o record;
begin
  for o in select * from jsonb_to_recordset(organizations) as r (id text, org_id text, context text, name text, slug text,
    image_url text, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz)
  loop
    perform set_config(''tenantry.tenant_id'', o.id, true), set_config(''tenantry.org_id'', o.org_id, true),
      set_config(''tenantry.context'', o.context, true);
', routine, schema)
  || case when unmarked is not null then format('    if o.deleted_at is not null then
      update %s as t set %s where %s and %s;
    end if;
', target, marks, own, unmarked) else '' end
  || format('    continue when o.deleted_at is not null;
    if not exists (select from %1$s as t where %2$s) then
      begin
        insert into %1$s (%3$I%4$s) values (o.org_id%5$s);
      exception when unique_violation then  -- the app was first, or the key is another organization''s
        if not exists (select from %1$s as t where %2$s) then
          raise;
        end if;
      end;
    end if;
', target, own, org_column, places, values_)
  || case when differs is not null then format('    update %s as t set %s
    where %s and (
          %s);
', target, sets, own, differs) else '' end
  || '  end loop;
  set constraints all immediate;
end
$follow$';
end
$$;

-- What of an organization can be copied, and into columns of which types.
create or replace function tenantry.follower_writes(out what text, out types regtype[])
returns setof record language sql immutable as $$
  values ('name', '{text,varchar}'::regtype[]), ('slug', '{text,varchar}'), ('image_url', '{text,varchar}'),
    ('created_at', '{timestamptz,timestamp}'), ('updated_at', '{timestamptz,timestamp}'), ('deleted_at', '{timestamptz,timestamp,boolean}')
$$;

-- Deletes deliveries received before a time; answers {"forgotten": n}. Dead letters, refused deliveries and the last of
-- each type stay, see forgettable. A delivery forgotten is no duplicate when it comes again, so the last 7 days, in which Clerk's sender tries again, are
-- kept: a later time is refused with TY010.
--
-- options: {"limit": n: the n oldest at most, so that a caller may go on in further transactions,
--           "dry_run": true: counts them and deletes none}
--
-- Who may call: tenantry_app. One at a time: where another is at it, nothing is deleted, and the answer has "busy": true.
create or replace function tenantry.forget_events_v1(before timestamptz, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  most      bigint;
  forgotten bigint;
begin
  if before is null or before > now() - interval '7 days' then
    perform tenantry.raise_error('TY010', format('before is %s: it must be a time at least 7 days ago', coalesce(before::text, 'null')));
  elsif coalesce(options ->> 'limit', '1') !~ '^[1-9]\d{0,8}$' then
    perform tenantry.raise_error('TY010', 'limit is no whole number above 0');
  end if;
  most := (options ->> 'limit')::bigint;
  if options -> 'dry_run' = 'true' then
    select count(*) into forgotten from tenantry.forgettable(before);
  elsif not pg_try_advisory_xact_lock(hashtext('tenantry.forget'), 0) then
    return jsonb_build_object('forgotten', 0, 'busy', true);
  else
    delete from tenantry.webhook_events where message_id = any (array(
      select f.message_id from tenantry.forgettable(before) as f order by f.received_at limit most));
    get diagnostics forgotten = row_count;
    if forgotten > 0 then
      insert into tenantry.retention as r (before) values (forget_events_v1.before)
      on conflict (singleton) do update set before = greatest(r.before, excluded.before);
    end if;
  end if;
  return jsonb_build_object('forgotten', forgotten);
end
$$;

-- Forgets that a table follows. Definer: the registry is the owner's. Who may call: the table's owner.
create or replace function tenantry.forget_follower(relation regclass)
returns void language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  perform tenantry.refuse_stranger(relation);
  delete from tenantry.followers as f where f.relation = forget_follower.relation;
  delete from tenantry.follower_gaps as g where not exists (select from tenantry.followers as f where f.relation = g.relation);
end
$$;

-- The deliveries received before a time that may be forgotten. Dead letters and refused ones stay, and so does the last of
-- each type, whatever its age: it says since when deliveries have stopped, and that the type is ticked.
create or replace function tenantry.forgettable(before timestamptz)
returns table (message_id text, received_at timestamptz) language sql stable as $$
  select e.message_id, e.received_at
  from tenantry.webhook_events as e
  where e.received_at < before and e.outcome in ('applied', 'stale', 'ignored')
    and e.received_at < (select tenantry.last_heard())
    and (e.type is null or e.received_at < (
      select last.received_at from tenantry.webhook_events as last
      where last.type = e.type and last.outcome <> 'refused' order by last.received_at desc limit 1))
$$;

-- Lets tenants and the bypass name what is in a schema; TY030 where the caller may not grant that.
create or replace function tenantry.grant_schema(namespace regnamespace)
returns void language plpgsql as $$
begin
  if has_schema_privilege('tenantry_tenant', namespace, 'usage') and has_schema_privilege('tenantry_bypass', namespace, 'usage') then
    return;
  elsif not has_schema_privilege(namespace, 'usage with grant option') then
    perform tenantry.raise_error('TY030', format(
      'tenants may not use the schema %s, and %I may not let them: its owner runs "grant usage on schema %1$s to tenantry_tenant, tenantry_bypass"',
      namespace, current_user));
  end if;
  execute format('grant usage on schema %s to tenantry_tenant, tenantry_bypass', namespace);
end
$$;

-- Lets tenants draw from the sequences of a table they write, and takes every other right on them. A sequence that
-- another table of tenants draws from as well (a partition's parent, a shared counter) stays theirs to draw from.
create or replace function tenantry.grant_sequences(relation regclass, mode text)
returns void language plpgsql as $$
declare
  drawn   regclass;
  written boolean;
begin
  foreach drawn in array tenantry.sequences_of(relation) loop
    written := mode = 'write' or exists (
      select from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
      where i.mode in ('isolated', 'write') and i.relation <> grant_sequences.relation and drawn = any (tenantry.sequences_of(i.relation)));
    execute format('revoke all on sequence %s from public, tenantry_tenant, tenantry_bypass', drawn);
    -- USAGE tells how many rows all tenants have (pg_sequences.last_value). An identity column draws without it.
    if written and not exists (
      select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = drawn and d.deptype = 'i') then
      execute format('grant usage on sequence %s to tenantry_tenant', drawn);
    end if;
    execute format('grant %s on sequence %s to tenantry_bypass',
      case when written or mode = 'read' then 'usage, select, update' else 'select' end, drawn);
  end loop;
end
$$;

-- Sets what tenants (and the bypass) may do with a table and the sequences its columns draw from, and takes every
-- right from PUBLIC. `mode`: write, read or none, where the bypass reads, for dumps. Nobody keeps TRUNCATE, which asks no
-- policy; not the owner either.
create or replace function tenantry.grant_table(relation regclass, mode text)
returns void language plpgsql as $$
declare
  namespace constant regnamespace := (select relnamespace from pg_class where oid = relation);
  grantee text;
begin
  execute format('revoke all on %s from public, tenantry_tenant, tenantry_bypass', relation);
  for grantee in
    select distinct case when g.grantee = 0 then 'public' else g.grantee::regrole::text end
    from pg_class as c cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as g
    where c.oid = relation and g.privilege_type = 'TRUNCATE'
  loop
    execute format('revoke truncate on %s from %s', relation, grantee);
  end loop;
  if mode <> 'none' then
    perform tenantry.grant_schema(namespace);
    execute format('grant %s on %s to tenantry_tenant', case mode when 'write' then 'select, insert, update, delete' else 'select' end, relation);
  end if;
  execute format('grant %s on %s to tenantry_bypass', case mode when 'none' then 'select' else 'select, insert, update, delete' end, relation);
  perform tenantry.grant_sequences(relation, mode);
end
$$;

-- Hands organizations to the routine of a table that follows; answers the refusal, whose code is null where it took them.
--
-- The routine, and the triggers of the app that it sets off, are the table owner's code and run with that owner's rights,
-- never with those of who merges. So it has to be a definer of that owner, before and, as the owner might alter it in
-- between, after the call: by its version, of which no two are alike. And it has to leave the search path alone, by which
-- the functions that called this one find what they name. Else all that it did is undone, as with any error. What it
-- calls could change how operators are found: those below are named in full. An older snapshot would not show the version.
-- A lock is waited for less long than deadlocks are looked for: it is the copy that gives way.
create or replace function tenantry.hand_over(follower tenantry.followers, organizations tenantry.tenants[])
returns tenantry.follower_gaps language plpgsql set search_path = pg_catalog, tenantry, pg_temp set lock_timeout = '50ms' as $$
declare
  refusal tenantry.follower_gaps;
  told    constant jsonb := (
    select jsonb_agg(jsonb_build_object(
      'id', o.id, 'org_id', o.clerk_org_id, 'context', tenantry.describe_app(o), 'name', o.name, 'slug', o.slug,
      'image_url', o.image_url, 'created_at', o.created_at, 'updated_at', to_timestamp(o.revision / 1000.0),
      'deleted_at', o.ended_at) order by o.id)
    from unnest(organizations) as o where o.revision > 0 or o.ended_at is not null);  -- a stub has no name yet
  names   constant text[] := array['tenantry.tenant_id', 'tenantry.org_id', 'tenantry.user_id', 'tenantry.context'];
  before  constant text[] := array(select coalesce(current_setting(n, true), '') from unnest(names) as n);
  path    constant text := current_setting('search_path');
  version text;
  called  text;
begin
  if told is null then
    return null;
  end if;
  select p.oid || ' ' || p.xmin, format('%I.%I', n.nspname, p.proname) into version, called
  from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace join pg_class as c on c.oid = follower.relation
  where p.oid = to_regprocedure(follower.routine || '(jsonb)') and p.prosecdef and p.proowner = c.relowner;
  if version is null or current_setting('transaction_isolation') <> 'read committed' then
    refusal.code := case when version is null then '42883' else '25001' end;
    return refusal;
  end if;
  perform set_config('tenantry.user_id', '', true);
  execute format('select %s($1)', called) using told;
  if not exists (
      select from pg_catalog.pg_proc as p join pg_catalog.pg_class as c on c.oid operator(pg_catalog.=) follower.relation
      where (p.oid operator(pg_catalog.||) ' ' operator(pg_catalog.||) p.xmin) operator(pg_catalog.=) version
        and p.prosecdef and p.proowner operator(pg_catalog.=) c.relowner
        and pg_catalog.current_setting('search_path') operator(pg_catalog.=) path) then
    raise exception using errcode = '42501';
  end if;
  perform set_config(n, b, true) from unnest(names, before) as s(n, b);
  return null;
exception when assert_failure or others then
  get stacked diagnostics refusal.code = returned_sqlstate, refusal.object = constraint_name;
  if refusal.object = '' then
    get stacked diagnostics refusal.object = column_name;
  end if;
  return refusal;
end
$$;

-- Whether the user holds this permission of Clerk (`org:feature:action`, `org:sys_*` too) in the current tenant; TY001
-- without one. The app itself holds all.
create or replace function tenantry.has_permission(permission text)
returns boolean language plpgsql stable parallel safe as $$
declare
  context constant jsonb := tenantry.current_context();
  wanted  constant text := tenantry.role_key(permission);
begin
  return coalesce(
    context -> 'permissions' = 'null' or context -> 'permissions' ? wanted or context -> 'system_permissions' ? wanted, false);
end
$$;

-- Whether the user has this role (with or without `org:`) in the current tenant; TY001 without one.
create or replace function tenantry.has_role(role text)
returns boolean language plpgsql stable parallel safe as $$
begin
  return coalesce(tenantry.role_key(role) = tenantry.current_context() ->> 'role', false);
end
$$;

-- TY021 unless this process is the one that works on the run.
create or replace function tenantry.hold_run(run_id bigint, attempt integer)
returns void language plpgsql stable as $$
begin
  if not exists (
    select from tenantry.reconcile_runs as r where r.id = run_id and r.attempt = hold_run.attempt and r.finished_at is null
  ) then
    perform tenantry.raise_error('TY021', format('run %s goes on in another process, or has ended', run_id));
  end if;
end
$$;

-- Keeps everybody off the tenants for the moment in which a partitioned table's foreign key to them joins its partitions'.
-- By itself PostgreSQL would let others read until it drops triggers there, and only then want them gone: a merge that had
-- read tenants, and goes on to write some, would fail of that deadlock at once, however short the lock is waited for.
-- Definer: the tenants are the owner's. Who may call: the table's owner. Locks: tenants (ACCESS EXCLUSIVE).
create or replace function tenantry.hold_tenants(relation regclass)
returns void language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  perform tenantry.refuse_stranger(c.oid) from pg_class as c where c.oid = relation;
  if not found then  -- of a table that is gone nobody has a key to make
    return;
  end if;
  lock table tenantry.tenants in access exclusive mode;
end
$$;

-- Whether merging a snapshot into a row would change it, so that an unchanged row is neither written nor locked.
-- A sighting of what is known and live is news only where `firm`: the object's own event, which saw it when it was
-- observed. Parents and pages repeat themselves; but a page settles a doubt.
create or replace function tenantry.is_news(
  known_revision bigint, known_observed_at timestamptz, known_hash bigint, known_in_doubt boolean,
  known_seen timestamptz, known_absent timestamptz, known_deleted timestamptz,
  new_revision bigint, new_observed_at timestamptz, new_hash bigint,
  new_seen timestamptz, new_absent timestamptz, new_deleted timestamptz, firm boolean
) returns boolean language plpgsql immutable parallel safe as $$
begin
  -- One thing at a time: an expression is prepared anew in every transaction, whole.
  if (new_revision, new_hash) <> (known_revision, known_hash)
     and ((new_revision, new_observed_at, new_hash) > (known_revision, known_observed_at, known_hash)
          or (new_revision = known_revision and new_revision > 0 and not known_in_doubt)) then
    return true;
  elsif known_in_doubt and not firm and new_revision = known_revision and new_observed_at > known_observed_at then
    return true;
  elsif new_deleted > coalesce(known_deleted, '-infinity') or new_absent > coalesce(known_absent, '-infinity') then
    return true;
  end if;
  return coalesce(
    ((firm and new_seen = new_observed_at) or known_absent is not null) and new_seen > coalesce(known_seen, '-infinity'), false);
end
$$;

-- Whether a letter about to be written tells of an invitation that erase_user_v1 has emptied.
create or replace function tenantry.is_of_erased_invitation(letter tenantry.webhook_events)
returns boolean language plpgsql stable as $$
declare
  event jsonb := letter.data;
begin
  if letter.type is null or tenantry.kind_of_event(letter.type) is distinct from 'invitations' then
    return false;
  elsif event is null and letter.body is not null then
    event := tenantry.read_body(letter.body);  -- a dead letter that has a type could be read so far
  end if;
  return exists (select from tenantry.erased as e where e.id = event #>> '{data,id}');
end
$$;

-- Whether a kind of change is among `kinds`: itself, all of its subject (`member.*`), or all (`*`).
create or replace function tenantry.is_of_kinds(kind text, kinds text[])
returns boolean language sql immutable parallel safe as $$
  select kind = any (kinds) or split_part(kind, '.', 1) || '.*' = any (kinds) or '*' = any (kinds)
$$;

-- Whether a table keeps exactly these columns, together, unique, so that a foreign key may refer to them.
create or replace function tenantry.is_unique(relation regclass, columns name[])
returns boolean language sql stable as $$
  select exists (
    select from pg_index as x
    where x.indrelid = relation and x.indisunique and x.indisvalid and x.indpred is null and x.indimmediate and x.indnkeyatts = cardinality(columns)
      and not exists (
        select from generate_series(0, x.indnkeyatts - 1) as n
        left join pg_attribute as a on a.attrelid = relation and a.attnum = x.indkey[n]
        where a.attname is null or a.attname <> all (columns)))
$$;

-- Puts a table behind tenant isolation. Idempotent; run it again after ALTERs to mend what check_v1 found.
--
-- options: {"column": "tenant_id", "key": "id",        -- the column, and which column of tenants it holds: id or clerk_org_id
--           "backfill": "<tenant id or Clerk id>",     -- whom the rows without a tenant belong to
--           "permissions": {"delete": "org:documents:delete"},  -- select, insert, update, delete: what the member must hold
--           "check": "later"}                          -- no findings: check_v1 reads every table, under this one's lock
-- returns: {"table", "column", "key", "partitions": [...], "findings": [check_v1's rows about the table]}
-- raises:  TY030 where the table cannot be isolated, naming why; TY010 for options it does not know
--
-- Who may call: the table's owner, without a tenant. Locks the table (ACCESS EXCLUSIVE), for as long as a scan takes; no
-- scan where the column is there and NOT NULL, with an index that it begins, and the foreign key to tenants.
create or replace function tenantry.isolate_table_v1(relation regclass, options jsonb default '{}')
returns jsonb language plpgsql as $$
declare
  tenant_column constant name := coalesce(options ->> 'column', 'tenant_id');
  tenant_key    constant text := coalesce(options ->> 'key', case when tenant_column = 'tenant_id' then 'id' end, 'clerk_org_id');
  permissions   constant jsonb := coalesce(nullif(options -> 'permissions', 'null'), '{}');
  parts         constant regclass[] := tenantry.partitions_of(relation);
  is_child      constant boolean := exists (select from pg_inherits where inhrelid = relation);
  part          regclass;
begin
  perform tenantry.check_isolation_options(relation, options, tenant_key, permissions);
  foreach part in array relation || parts loop
    execute format('alter table %s no force row level security', part);  -- the owner must see all rows for what follows
    if part = relation or not (select relispartition from pg_class where oid = part) then  -- a partition follows its parent
      perform tenantry.prepare_tenant_column(part, tenant_column, tenant_key, options ->> 'backfill');
    end if;
    perform tenantry.enforce_isolation(part, tenant_column, tenant_key, permissions);
    perform tenantry.confine_views(part);
    perform tenantry.register_isolation(part, 'isolated', tenant_column, tenant_key, permissions);
  end loop;
  perform tenantry.grant_table(relation, case when is_child then 'none' else 'write' end);
  foreach part in array parts loop
    perform tenantry.grant_table(part, 'none');  -- reached through the parent alone
  end loop;
  return jsonb_build_object('table', relation, 'column', tenant_column, 'key', tenant_key, 'partitions', to_jsonb(parts::text[]),
    'findings', case when options ->> 'check' = 'later' then null else
      coalesce((select jsonb_agg(to_jsonb(f)) from tenantry.check_v1() as f
                where f.object = relation::text or f.object = any (parts::text[])), '[]') end);
end
$$;

-- Whether the policies of an isolated table are those that enforce_isolation made, and hold for its owner of today.
create or replace function tenantry.isolation_holds(i tenantry.table_isolation)
returns boolean language plpgsql stable as $$
declare
  owner    constant oid := (select relowner from pg_class where oid = i.relation);
  confined constant oid[] := array['tenantry_tenant'::regrole::oid, owner];
  context  constant text := case i.tenant_key when 'id' then 'current_tenant_id' else 'current_org_id' end;
  asked    constant text := format('%s()', context);
  tenant_column constant text := quote_ident(i.tenant_column);
begin
  return exists (
    select from pg_policy as p
    cross join lateral replace(pg_get_expr(p.polqual, p.polrelid), 'tenantry.current', 'current') as predicate
    where p.polrelid = i.relation and p.polname = 'tenantry_isolation' and not p.polpermissive and p.polcmd = '*' and p.polroles @> confined
      and pg_get_expr(p.polqual, p.polrelid) = pg_get_expr(p.polwithcheck, p.polrelid)
      and predicate in (  -- with the subselect, or as Citus gets it; a varchar column is cast
        format('(%s = ( SELECT %s AS %s))', tenant_column, asked, context), format('((%s)::text = ( SELECT %s AS %s))', tenant_column, asked, context),
        format('(%s = %s)', tenant_column, asked), format('((%s)::text = %s)', tenant_column, asked))
      and exists (  -- the real one, not a namesake that the search path finds first
        select from pg_depend as d
        where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
          and d.refobjid = ('tenantry.' || asked)::regprocedure))
  and exists (
    select from pg_policy as p
    where p.polrelid = i.relation and p.polname = 'tenantry_access' and p.polpermissive and p.polcmd = '*' and p.polroles @> confined)
  and exists (
    select from pg_policy as p
    where p.polrelid = i.relation and p.polname = 'tenantry_bypass' and p.polpermissive and p.polroles = array['tenantry_bypass'::regrole::oid])
  and not exists (
    select from jsonb_each_text(i.permissions) as wanted(command, permission)
    where not exists (
      select from pg_policy as p
      where p.polrelid = i.relation and p.polname = 'tenantry_may_' || wanted.command and not p.polpermissive and p.polroles @> confined
        and p.polcmd::text = case wanted.command when 'select' then 'r' when 'insert' then 'a' when 'update' then 'w' else 'd' end
        and position(quote_literal(wanted.permission) in pg_get_expr(coalesce(p.polqual, p.polwithcheck), p.polrelid)) > 0));
end
$$;

-- The predicate of a table's isolation policies. A scalar subselect runs once a query where a bare call, as a filter,
-- runs once a row; Citus refuses subselects in policies, and gets the call.
create or replace function tenantry.isolation_predicate(tenant_column name, tenant_key text)
returns text language plpgsql stable as $$
declare
  call constant text := format('tenantry.current_%s()', case tenant_key when 'id' then 'tenant_id' else 'org_id' end);
begin
  if exists (select from pg_extension where extname = 'citus') then
    return format('%I = %s', tenant_column, call);
  end if;
  return format('%I = (select %s)', tenant_column, call);
end
$$;

-- The statement that isolates a table again as it is registered.
create or replace function tenantry.isolation_statement(isolation tenantry.table_isolation)
returns text language sql stable as $$
  select format('select tenantry.isolate_table_v1(%L, %L);', isolation.relation,
    jsonb_build_object('column', isolation.tenant_column, 'key', isolation.tenant_key, 'permissions', isolation.permissions))
$$;

-- Two sets of snapshots as one.
create or replace function tenantry.join_snapshots(a tenantry.snapshots, b tenantry.snapshots)
returns tenantry.snapshots language plpgsql immutable as $$
begin
  if a is not distinct from null then
    return b;
  elsif b is not distinct from null then
    return a;
  end if;
  a.tenants := a.tenants || b.tenants;
  a.users := a.users || b.users;
  a.memberships := a.memberships || b.memberships;
  a.invitations := a.invitations || b.invitations;
  a.domains := a.domains || b.domains;
  a.roles := a.roles || b.roles;
  a.permissions := a.permissions || b.permissions;
  a.ended_sessions := a.ended_sessions || b.ended_sessions;
  a.firm := a.firm or b.firm;
  a.alone := a.alone or b.alone;
  return a;
end
$$;

-- Merges a snapshot into the row it is written over. The only place that decides what wins; every mirrored table has
-- it as its BEFORE UPDATE trigger, so that no statement can undo a newer snapshot. Commutative, associative,
-- idempotent: each register is a maximum, and the content is that of the greatest (revision, observed_at, hash).
-- A doubt ends with a newer revision, or where Clerk was asked after both snapshots that disagree.
create or replace function tenantry.keep_newest_snapshot()
returns trigger language plpgsql as $$
declare
  seen    constant timestamptz := greatest(old.last_seen, new.last_seen);
  absent  constant timestamptz := greatest(old.last_absent, new.last_absent);
  deleted constant timestamptz := greatest(old.deleted_at, new.deleted_at);
  asked   constant boolean := new.observed_at > old.observed_at and tenantry.current_cause() = 'reconcile';
  doubt   constant boolean :=
    case when old.revision < new.revision or (old.revision = new.revision and asked) then new.needs_refetch
         when old.revision > new.revision then old.needs_refetch
         else old.needs_refetch or new.needs_refetch or (old.revision > 0 and old.content_hash <> new.content_hash)
    end;
  -- Not every snapshot of these names its organization.
  may_lack_place constant boolean := tg_table_name in ('invitations', 'domains');
  place   uuid;
begin
  if may_lack_place then
    place := coalesce(new.tenant_id, old.tenant_id);
  end if;
  if (old.revision, old.observed_at, old.content_hash) > (new.revision, new.observed_at, new.content_hash) then
    new := old;
  end if;
  if may_lack_place then
    new.tenant_id := place;
  end if;
  new.last_seen := seen;
  new.last_absent := absent;
  new.deleted_at := deleted;
  new.needs_refetch := doubt;
  return new;
end
$$;

-- What the inbox keeps of an event: neither the address it was caused from, nor an invitation's link, which is a secret,
-- nor private metadata unless asked for.
create or replace function tenantry.keep_of_event(event jsonb, keep_private_metadata boolean)
returns jsonb language plpgsql immutable parallel safe as $$
begin
  event := event - 'event_attributes';
  if event -> 'data' ? 'url' then
    event := event #- '{data,url}';
  end if;
  return case when keep_private_metadata then event else tenantry.without_private_metadata(event) end;
end
$$;

-- The column that holds Clerk's id of a kind of objects.
create or replace function tenantry.key_of(kind text)
returns name language plpgsql immutable as $$
begin
  return case kind when 'organizations' then 'clerk_org_id' else 'id' end;
end
$$;

-- Which kind of object an event is about, or null for types the mirror does not use.
create or replace function tenantry.kind_of_event(type text)
returns text language sql immutable parallel safe as $$
  select case
    when type in ('user.created', 'user.updated', 'user.deleted') then 'users'
    when type in ('organization.created', 'organization.updated', 'organization.deleted') then 'organizations'
    when type in ('organizationMembership.created', 'organizationMembership.updated', 'organizationMembership.deleted') then 'memberships'
    when type in ('organizationInvitation.created', 'organizationInvitation.accepted', 'organizationInvitation.revoked') then 'invitations'
    when type in ('organizationDomain.created', 'organizationDomain.updated', 'organizationDomain.deleted') then 'domains'
    when type in ('role.created', 'role.updated', 'role.deleted') then 'roles'
    when type in ('permission.created', 'permission.updated', 'permission.deleted') then 'permissions'
    when type in ('session.ended', 'session.removed', 'session.revoked') then 'sessions'
  end
$$;

-- When this instance's last delivery was received, or null where none was.
create or replace function tenantry.last_heard()
returns timestamptz language plpgsql stable as $$
begin
  return (select e.received_at from tenantry.webhook_events as e where e.outcome <> 'refused' order by e.received_at desc limit 1);
end
$$;

-- All consumers, by name: [{"name", "kinds", "state": "reading", "failing" or "parked", "pos", "moved_at", "behind": <how
-- many changes of its kinds are to come, those without a place included>, "behind_since": <when the first of them was
-- written>, "attempts", "error", "retry_at", "parked_at", "failing": <the change it failed at: {"pos", "kind",
-- "object_id"}>}, ...]. Who may call: tenantry_app.
create or replace function tenantry.list_consumers_v1()
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(to_jsonb(c) || jsonb_build_object(
      'state', case when c.parked_at is not null then 'parked' when c.failing is not null then 'failing' else 'reading' end,
      'behind', waiting.number, 'behind_since', waiting.since,
      'failing', (select jsonb_build_object('pos', f.pos, 'kind', f.kind, 'object_id', f.object_id)
                  from tenantry.changes as f where f.pos = c.failing)) order by c.name), '[]')
    from tenantry.consumers as c
    cross join lateral (
      select count(*) as number, min(w.at) as since
      from (select kind, at from tenantry.changes where pos > c.pos union all
            select kind, at from tenantry.changes where pos is null) as w
      where tenantry.is_of_kinds(w.kind, c.kinds)) as waiting);
end
$$;

-- Live objects of which the mirror knows two contents of one version (a tie), or that they exist and no more (a stub):
-- Clerk is to be asked. [{"kind", "id", "org_id", "user_id"}, ...], at most 1000, none of those in `asked`.
-- Who may call: tenantry_app.
create or replace function tenantry.list_doubts_v1(asked text[] default '{}', org_id text default null)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
begin
  return (
    select coalesce(jsonb_agg(to_jsonb(found)), '[]') from (select * from (
      select * from tenantry.ties()
      union all
      select 'users', u.id, null, u.id from tenantry.users as u where u.ended_at is null and not u.needs_refetch and u.revision = 0
      union all
      select 'organizations', t.clerk_org_id, t.clerk_org_id, null from tenantry.tenants as t
      where t.ended_at is null and not t.needs_refetch and t.revision = 0 and t.clerk_org_id is not null
    ) as doubt
    where doubt.id <> all (asked) and (list_doubts_v1.org_id is null or doubt.org_id = list_doubts_v1.org_id)
    limit 1000) as found);
end
$$;

-- Deliveries in the inbox, the newest first, without what they tell.
--
-- options: {"types": ["user.created", "organization.*", ...], "outcomes": ["failed", ...], "org_id", "user_id",
--           "since": <time, as text>, "limit": n, at most 1000; 50 unless given,
--           "oldest_first": true, "after": {"received_at", "message_id"}: those that follow this one}
-- returns: [{"message_id", "type", "outcome", "error_code", "error", "org_id", "user_id", "occurred_at", "received_at",
--            "conflicts", "replays", "replayed_at"}, ...]
--
-- Who may call: tenantry_app. The conditions are written out, so that each finds its index.
create or replace function tenantry.list_events_v1(options jsonb default '{}')
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp set jit = off as $$
declare
  types    constant text[] := tenantry.clerk_texts(options, 'types');
  outcomes constant text[] := tenantry.clerk_texts(options, 'outcomes');
  after    constant jsonb := nullif(options -> 'after', 'null');
  upwards  constant boolean := coalesce(options -> 'oldest_first' = 'true', false);
  wanted   text := 'true';
  since    timestamptz;
  found    jsonb;
begin
  if jsonb_typeof(options) is distinct from 'object' then
    perform tenantry.raise_error('TY010', 'options are no object');
  elsif coalesce(options ->> 'limit', '50') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'limit is no whole number');
  end if;
  if jsonb_typeof(options -> 'types') not in ('array', 'null') or jsonb_typeof(options -> 'outcomes') not in ('array', 'null') then
    perform tenantry.raise_error('TY010', 'types or outcomes are no list');
  end if;
  begin
    since := options ->> 'since';
    if after is not null then
      wanted := format('(received_at, message_id) %s (%L::timestamptz, %L)',
        case when upwards then '>' else '<' end, (after ->> 'received_at')::timestamptz, after ->> 'message_id');
    end if;
  exception when data_exception then
    perform tenantry.raise_error('TY010', 'since or after is no time');
  end;
  if since is not null then
    wanted := wanted || format(' and received_at >= %L', since);
  end if;
  if outcomes is not null then
    wanted := wanted || format(' and outcome = any (%L)', outcomes);
    if outcomes <@ '{failed,refused}' then
      wanted := wanted || ' and outcome in (''failed'', ''refused'')';
    end if;
  end if;
  if types is not null then
    wanted := wanted || format(' and type = any (%L)', array(
      select type from tenantry.received_types() as type where type = any (types) or split_part(type, '.', 1) || '.*' = any (types)));
  end if;
  if options ->> 'org_id' is not null then
    wanted := wanted || format(' and org_id = %L', options ->> 'org_id');
  end if;
  if options ->> 'user_id' is not null then
    wanted := wanted || format(' and user_id = %L', options ->> 'user_id');
  end if;
  execute format($query$
    select coalesce(jsonb_agg(to_jsonb(e) order by e.received_at %2$s, e.message_id %2$s), '[]') from (
      select message_id, type, outcome, error_code, error, org_id, user_id, occurred_at, received_at, conflicts, replays, replayed_at
      from tenantry.webhook_events where %1$s
      order by received_at %2$s, message_id %2$s limit $1) as e
    $query$, wanted, case when upwards then 'asc' else 'desc' end)
  using least(coalesce((options ->> 'limit')::integer, 50), 1000) into found;
  return found;
end
$$;

-- The isolated tables, of a partitioned one the whole, and the foreign keys that lead to them or to tenants from outside
-- the schema: what a tenant's rows are found, and deleted in order, by.
--
-- returns: {"tables": [{"table", "column", "key": id or clerk_org_id, "parts": whether it has partitions or children}, ...],
--           "references": [{"name", "table", "columns": [...], "to", "to_columns": [...], "isolated": whether its table is,
--                           "readable": whether the bypass may read it}, ...]}; names are quoted as SQL needs them
--
-- Who may call: tenantry_app.
create or replace function tenantry.list_isolated_v1()
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  return (
    with recursive above(relation, root) as (
      select i.relation::oid, i.relation::oid from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
      where i.mode = 'isolated' and not exists (
        select from pg_inherits as h join tenantry.table_isolation as p on p.relation = h.inhparent and p.mode = 'isolated' where h.inhrelid = i.relation)
      union
      select h.inhrelid, above.root from pg_inherits as h join above on above.relation = h.inhparent
    ), named as (
      select c.oid, n.oid as schema, format('%I.%I', n.nspname, c.relname) as name from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    ), keys as (
      select k.*, coalesce(a.root, k.conrelid) as from_root, coalesce(b.root, k.confrelid) as to_root, a.root is not null as isolated
      from pg_constraint as k
      left join above as a on a.relation = k.conrelid
      left join above as b on b.relation = k.confrelid
      where k.contype = 'f' and k.conparentid = 0 and k.connamespace <> 'tenantry'::regnamespace
        and (b.root is not null or k.confrelid = 'tenantry.tenants'::regclass)
    )
    select jsonb_build_object(
      'tables', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'table', named.name, 'column', quote_ident(i.tenant_column), 'key', i.tenant_key,
          'parts', exists (select from pg_inherits where inhparent = i.relation)) order by named.name), '[]')
        from tenantry.table_isolation as i join named on named.oid = i.relation where i.relation in (select root from above)),
      'references', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'name', k.conname, 'table', child.name, 'to', parent.name, 'isolated', k.isolated,
          'readable', has_schema_privilege('tenantry_bypass', child.schema, 'usage') and has_table_privilege('tenantry_bypass', child.oid, 'select'),
          'columns', (select jsonb_agg(quote_ident(a.attname) order by place) from unnest(k.conkey) with ordinality as n(number, place)
                      join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = number),
          'to_columns', (select jsonb_agg(quote_ident(a.attname) order by place) from unnest(k.confkey) with ordinality as n(number, place)
                         join pg_attribute as a on a.attrelid = k.confrelid and a.attnum = number)) order by k.conname, k.conrelid), '[]')
        from keys as k join named as child on child.oid = k.from_root join named as parent on parent.oid = k.to_root)));
end
$$;

-- The live organizations, in order of their Clerk ids: {"after": "<id>", "limit": n, at most 1000} -> ["org_1", ...].
-- Who may call: tenantry_app.
create or replace function tenantry.list_organizations_v1(options jsonb default '{}')
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(page.clerk_org_id), '[]') from (
      select t.clerk_org_id from tenantry.tenants as t
      where t.clerk_org_id > coalesce(tenantry.clerk_text(options, 'after'), '') and t.ended_at is null
      order by t.clerk_org_id limit 1000) as page);
end
$$;

-- The pages a run has merged of a kind: {"pages": [{"number", "total", "first_id", "last_id"}, ...] in order and "seen":
-- <different objects>, both of one part; and of the whole kind {"listed": n, "created": n, "updated": n}.
-- Who may call: tenantry_app.
create or replace function tenantry.list_pages_v1(run_id bigint, kind text, part text default '')
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
declare
  answer jsonb;
begin
  select jsonb_build_object(
    'pages', coalesce(jsonb_agg(jsonb_build_object('number', p.number, 'total', p.total, 'first_id', p.first_id, 'last_id', p.last_id)
      order by p.number) filter (where p.part = list_pages_v1.part), '[]'),
    'created', coalesce(sum(p.created), 0), 'updated', coalesce(sum(p.updated), 0))
  into answer
  from tenantry.reconcile_pages as p where p.run_id = list_pages_v1.run_id and p.kind = list_pages_v1.kind;
  return answer || (
    select jsonb_build_object('listed', count(distinct hash), 'seen', count(distinct hash) filter (where p.part = list_pages_v1.part))
    from tenantry.reconcile_pages as p, unnest(p.seen) as hash
    where p.run_id = list_pages_v1.run_id and p.kind = list_pages_v1.kind);
end
$$;

-- Tenants, in order of their Clerk ids, with how many members they have.
--
-- options: {"deleted": true: those deleted alone; false: the others alone, "limit": n, at most 1000, "after": "<Clerk id>"}
-- returns: [{"id", "org_id", "user_id", "name", "slug", "members", "created_at", "ended_at", "purged_at"}, ...]
--
-- Who may call: tenantry_app.
create or replace function tenantry.list_tenants_v1(options jsonb default '{}')
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp set jit = off as $$
begin
  if coalesce(options ->> 'limit', '1000') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'limit is no whole number');
  elsif jsonb_typeof(options -> 'deleted') <> 'boolean' then
    perform tenantry.raise_error('TY010', 'deleted is true or false');
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'id', page.id, 'org_id', page.clerk_org_id, 'user_id', page.clerk_user_id, 'name', page.name, 'slug', page.slug,
      'members', (select count(*) from tenantry.members as m where m.tenant_id = page.id),
      'created_at', page.created_at, 'ended_at', page.ended_at, 'purged_at', page.purged_at) order by page.clerk_id collate "C"), '[]')
    from (
      select t.*, coalesce(t.clerk_org_id, t.clerk_user_id) as clerk_id from tenantry.tenants as t
      where coalesce(t.clerk_org_id, t.clerk_user_id) collate "C" > coalesce(tenantry.clerk_text(options, 'after'), '')
        and (options -> 'deleted' is null or (options -> 'deleted')::boolean = (t.ended_at is not null))
      order by coalesce(t.clerk_org_id, t.clerk_user_id) collate "C" limit least(coalesce((options ->> 'limit')::integer, 1000), 1000)) as page);
end
$$;

-- Of Clerk's ids of organizations and users, those that the mirror has never seen: ["org_1", ...], in their order.
-- Who may call: tenantry_app.
create or replace function tenantry.list_unknown_ids_v1(ids jsonb)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(asked.id order by asked.id), '[]') from (
      select distinct element as id from jsonb_array_elements_text(ids) as element) as asked
    where not exists (select from tenantry.tenants as t where t.clerk_org_id = asked.id)
      and not exists (select from tenantry.users as u where u.id = asked.id));
end
$$;

-- The live rows of a kind that no page of the run has shown, and that nothing has shown since it began: it may be that
-- Clerk has them no more. Rows of an ended organization or user are none of them, their end follows from that.
--
-- options: {"after": "<Clerk id>", "limit": n, at most 1000}
-- returns: {"live": <rows of the kind>, "unseen": <of them>, "rows": [{"id", "org_id", "user_id"}, ...] in order of id}
--
-- Who may call: tenantry_app.
create or replace function tenantry.list_unseen_v1(run_id bigint, kind text, options jsonb default '{}')
returns jsonb language plpgsql stable security definer
set search_path = pg_catalog, tenantry, pg_temp set jit = off
as $$
declare
  run    tenantry.reconcile_runs;
  places constant text := case kind
    when 'organizations' then 'select k.clerk_org_id as id, k.clerk_org_id as org_id, null::text as user_id, k.last_seen from tenantry.tenants as k
      where k.ended_at is null and k.clerk_org_id is not null'
    when 'memberships' then 'select k.id, t.clerk_org_id, k.user_id, k.last_seen from tenantry.tenant_memberships as k
      join tenantry.tenants as t on t.id = k.tenant_id and t.ended_at is null join tenantry.users as u on u.id = k.user_id and u.ended_at is null
      where k.ended_at is null'
    when 'invitations' then 'select k.id, t.clerk_org_id, null::text, k.last_seen from tenantry.invitations as k
      join tenantry.tenants as t on t.id = k.tenant_id and t.ended_at is null where k.ended_at is null'
    when 'domains' then 'select k.id, t.clerk_org_id, null::text, k.last_seen from tenantry.domains as k
      join tenantry.tenants as t on t.id = k.tenant_id and t.ended_at is null where k.ended_at is null'
    else format('select k.id, null::text, null::text, k.last_seen from %s as k where k.ended_at is null', tenantry.mirrored_table(kind))
  end;
  found  jsonb;
begin
  select * into run from tenantry.reconcile_runs as r where r.id = list_unseen_v1.run_id;
  if run.id is null or coalesce(options ->> 'limit', '0') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'there is no such run, or limit is no whole number');
  end if;
  execute format($query$
    with seen as materialized (
      select hash from tenantry.reconcile_pages as p, unnest(p.seen) as hash where p.run_id = $1 and p.kind = $2
    ), live as materialized (
      select place.id, place.org_id, place.user_id, place.last_seen from (%s) as place(id, org_id, user_id, last_seen)
      where $3 is null or place.org_id = $3
    ), unseen as materialized (
      select id, org_id, user_id from live
      where (last_seen is null or last_seen < $4) and not exists (select from seen where hash = hashtextextended(live.id, 0))
    )
    select jsonb_build_object('live', (select count(*) from live), 'unseen', (select count(*) from unseen),
      'rows', coalesce((select jsonb_agg(to_jsonb(page) order by id collate "C") from (
        select * from unseen where $5 is null or id collate "C" > $5 order by id collate "C" limit $6) as page), '[]'))
    $query$, places)
  using run.id, kind, run.org_id, run.started_at, tenantry.clerk_text(options, 'after'),
    least(coalesce((options ->> 'limit')::integer, 1000), 1000) into found;
  return found;
end
$$;

-- Makes this transaction the one that reconciles, for as long as it is open, or answers that another is: {"locked": bool}.
-- Held open beside the transactions of the run, whose process may die: then the lock is free at once. Reads no table, so
-- that it holds up no vacuum. Who may call: tenantry_app.
create or replace function tenantry.lock_reconcile_v1()
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  perform set_config('idle_in_transaction_session_timeout', '0', true);
  return jsonb_build_object('locked', pg_try_advisory_xact_lock(hashtext('tenantry.reconcile'), 0));
end
$$;

-- Trigger, before a statement on what role_grants is made of: two that change it at once take turns, and each takes its
-- turn before it locks a row.
create or replace function tenantry.lock_role_grants()
returns trigger language plpgsql as $$
begin
  perform pg_advisory_xact_lock('tenantry.role_grants'::regclass::oid::integer, 0);
  return null;
end
$$;

-- Waits for what is being merged about a tenant, and holds up what is to be, until the transaction ends: the lock that
-- merge_snapshots takes on a tenant that begins or ends.
create or replace function tenantry.lock_tenant(tenant_id uuid)
returns void language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtext('tenantry.merge'), hashtext('tenant:' || tenant_id) & 1023);
end
$$;

-- Merges snapshots of domains, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order.
create or replace function tenantry.merge_domains(rows tenantry.domains[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.domains[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.id) into news, written
  from unnest(rows) as r left join tenantry.domains as k on k.id = r.id
  where k.id is null or (k.tenant_id is null and r.tenant_id is not null) or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.domains (
    id, tenant_id, name, enrollment_mode, verified, created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.tenant_id, r.name, r.enrollment_mode, r.verified, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    r.last_seen, r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.domains, null::tenantry.domains)) as r
  on conflict (id) do update set
    tenant_id = excluded.tenant_id,
    name = excluded.name,
    enrollment_mode = excluded.enrollment_mode,
    verified = excluded.verified,
    created_at = excluded.created_at,
    revision = excluded.revision,
    observed_at = excluded.observed_at,
    content_hash = excluded.content_hash,
    needs_refetch = excluded.needs_refetch,
    last_seen = excluded.last_seen,
    last_absent = excluded.last_absent,
    deleted_at = excluded.deleted_at;
  return written;
end
$$;

-- Remembers ended sessions until no token of theirs can be valid; forgets those of before.
create or replace function tenantry.merge_ended_sessions(rows tenantry.ended_sessions[])
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  changed text[];
begin
  delete from tenantry.ended_sessions
  where session_id in (select session_id from tenantry.ended_sessions where keep_until < now() order by session_id for update skip locked);

  with new as (
    insert into tenantry.ended_sessions
    select distinct on (session_id) * from unnest(rows) where keep_until > now() order by session_id, ended_at
    on conflict do nothing
    returning session_id
  )
  select coalesce(array_agg(session_id), '{}') into changed from new;
  return changed;
end
$$;

-- Merges snapshots of invitations, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order.
create or replace function tenantry.merge_invitations(rows tenantry.invitations[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.invitations[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.id) into news, written
  from unnest(rows) as r left join tenantry.invitations as k on k.id = r.id
  where k.id is null or (k.tenant_id is null and r.tenant_id is not null) or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.invitations (
    id, tenant_id, email_address, role, status, inviter_id, user_id, public_metadata, expires_at, created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.tenant_id, case when not erased then r.email_address end, r.role, r.status, r.inviter_id, r.user_id,
    case when not erased then r.public_metadata end, r.expires_at, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    r.last_seen, r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.invitations, null::tenantry.invitations)) as r
  cross join lateral (select exists (select from tenantry.erased as e where e.id in (r.id, r.user_id)) as erased) as person
  on conflict (id) do update set
    tenant_id = excluded.tenant_id,
    email_address = excluded.email_address,
    role = excluded.role,
    status = excluded.status,
    inviter_id = excluded.inviter_id,
    user_id = excluded.user_id,
    public_metadata = excluded.public_metadata,
    expires_at = excluded.expires_at,
    created_at = excluded.created_at,
    revision = excluded.revision,
    observed_at = excluded.observed_at,
    content_hash = excluded.content_hash,
    needs_refetch = excluded.needs_refetch,
    last_seen = excluded.last_seen,
    last_absent = excluded.last_absent,
    deleted_at = excluded.deleted_at;
  return written;
end
$$;

-- Merges snapshots of memberships, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order. Known ids go before
-- new ones: who re-joined between two listings has left, then joined, as the triggers see it.
create or replace function tenantry.merge_memberships(rows tenantry.tenant_memberships[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  known   tenantry.tenant_memberships[];
  new     tenantry.tenant_memberships[];
  news    tenantry.tenant_memberships[];
  written text[];
begin
  select array_agg(r) filter (where k.id is not null), array_agg(r) filter (where k.id is null), array_agg(distinct r.id)
  into known, new, written
  from unnest(rows) as r left join tenantry.tenant_memberships as k on k.id = r.id
  where k.id is null or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);

  for number in 1 .. 2 loop
    news := case number when 1 then known else new end;
    continue when news is null;
    insert into tenantry.tenant_memberships (
      id, tenant_id, user_id, role, permissions, public_metadata, created_at,
      revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
    select
      r.id, r.tenant_id, r.user_id, r.role, r.permissions,
      case when r.public_metadata <> '{}' and exists (select from tenantry.erased as e where e.id = r.user_id) then null else r.public_metadata end,
      r.created_at,
      coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
      r.last_seen, r.last_absent, r.deleted_at
    from unnest(tenantry.fold_snapshots(news, null::tenantry.tenant_memberships, null::tenantry.tenant_memberships)) as r
    on conflict (id) do update set
      tenant_id = excluded.tenant_id,
      user_id = excluded.user_id,
      role = excluded.role,
      permissions = excluded.permissions,
      public_metadata = excluded.public_metadata,
      created_at = excluded.created_at,
      revision = excluded.revision,
      observed_at = excluded.observed_at,
      content_hash = excluded.content_hash,
      needs_refetch = excluded.needs_refetch,
      last_seen = excluded.last_seen,
      last_absent = excluded.last_absent,
      deleted_at = excluded.deleted_at;
  end loop;
  return written;
end
$$;

-- Merges a page of Clerk's Backend API, and absences that were confirmed.
--
-- kind:    users, organizations, memberships, invitations, domains, roles, permissions
-- page:    the page's objects as an array, or the answer itself: {"data": [...], "total_count": n}
-- options: {"observed_at": <ms, Clerk's clock, not later than it was read; required>, "instance_id": "ins_...",
--           "absent": ["<id>", ...]: not in a complete listing, and each confirmed by a request of its own at observed_at,
--           "run": {"id", "attempt", "part", "number", "total"}: which page of which run it is, see reconcile_pages;
--           of absences the first two,
--           "dry_run": true: nothing is merged, and the answer says what would change}
-- returns: {"seen": n, "changed": ["<id>", ...]}; of a run "first_id" and "last_id" too, and how many of the kind were
--           "created" and "updated", or, dry, the "drift": see preview_snapshots
--
-- Who may call: tenantry_app. Absences must be merged before the next listing begins: what a page repeats unchanged is
-- not written, so a later sighting leaves no trace that an absence of before could be held against.
-- Locks: as merge_snapshots says.
create or replace function tenantry.merge_page_v1(kind text, page jsonb, options jsonb)
returns jsonb language plpgsql security definer
set search_path = pg_catalog, tenantry, pg_temp
set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  objects constant jsonb := case when jsonb_typeof(page) = 'object' then page -> 'data' else page end;
  seen_at constant timestamptz := tenantry.clerk_time(options -> 'observed_at');
  absent  constant text[] := coalesce(tenantry.clerk_texts(options, 'absent'), '{}');
  dry     constant boolean := coalesce(options -> 'dry_run' = 'true', false);
  of_run  constant boolean := options ? 'run' and not dry;
  ids       text[];
  last_change bigint;
  snapshots tenantry.snapshots;
  changed   text[] := '{}';
  created   bigint := 0;
  updated   bigint := 0;
  drift     jsonb;
begin
  if jsonb_typeof(objects) is distinct from 'array' then
    perform tenantry.raise_error('TY010', 'the page is neither an array nor {"data": [...]}');
  elsif seen_at is null then
    perform tenantry.raise_error('TY010', 'options lack observed_at');
  elsif kind is null or kind not in ('users', 'organizations', 'memberships', 'invitations', 'domains', 'roles', 'permissions') then
    perform tenantry.raise_error('TY010', format('unknown kind %L', kind));
  end if;
  perform tenantry.bind_instance(tenantry.clerk_text(options, 'instance_id'));
  perform tenantry.state_cause('reconcile');
  snapshots := tenantry.join_snapshots(
    case kind when 'memberships' then tenantry.read_memberships(objects, seen_at)
              when 'users' then tenantry.read_users(objects, seen_at)
              else tenantry.read_objects(kind, array(select jsonb_array_elements(objects)), seen_at) end,
    tenantry.read_endings(kind, absent, seen_at, false));
  ids := array(select object ->> 'id' from jsonb_array_elements(objects) as object);
  if of_run then
    last_change := (select max(seq) from tenantry.changes);
  end if;
  if dry then
    drift := tenantry.preview_snapshots(kind, ids || absent, snapshots);
  else
    changed := tenantry.merge_snapshots(snapshots);
  end if;
  if of_run and cardinality(changed) > 0 then  -- by what the feed got from this transaction: others merge beside it
    select count(*) filter (where c.before is null), count(*) filter (where c.before is not null) into created, updated
    from tenantry.changes as c
    where c.seq > coalesce(last_change, 0) and c.xmin = pg_current_xact_id()::xid
      and c.kind !~ '^(tenant|user)\.' = (merge_page_v1.kind not in ('organizations', 'users'));
  end if;
  if options ? 'run' then
    perform tenantry.note_page(kind, options -> 'run', ids, created, updated);
  end if;
  return jsonb_build_object('seen', jsonb_array_length(objects), 'changed', to_jsonb(changed))
    || case when options ? 'run' then jsonb_build_object('first_id', ids[1], 'last_id', ids[cardinality(ids)]) else '{}' end
    || case when of_run then jsonb_build_object('created', created, 'updated', updated) else '{}' end
    || case when dry then jsonb_build_object('drift', drift) else '{}' end;
end
$$;

-- Merges snapshots of permissions, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order.
create or replace function tenantry.merge_permissions(rows tenantry.permissions[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.permissions[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.id) into news, written
  from unnest(rows) as r left join tenantry.permissions as k on k.id = r.id
  where k.id is null or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.permissions (
    id, key, name, description, type, created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.key, r.name, r.description, r.type, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    r.last_seen, r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.permissions, null::tenantry.permissions)) as r
  on conflict (id) do update set
    key = excluded.key,
    name = excluded.name,
    description = excluded.description,
    type = excluded.type,
    created_at = excluded.created_at,
    revision = excluded.revision,
    observed_at = excluded.observed_at,
    content_hash = excluded.content_hash,
    needs_refetch = excluded.needs_refetch,
    last_seen = excluded.last_seen,
    last_absent = excluded.last_absent,
    deleted_at = excluded.deleted_at;
  return written;
end
$$;

-- Merges snapshots of roles, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order.
create or replace function tenantry.merge_roles(rows tenantry.roles[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.roles[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.id) into news, written
  from unnest(rows) as r left join tenantry.roles as k on k.id = r.id
  where k.id is null or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.roles (
    id, key, name, description, permissions, created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.key, r.name, r.description, r.permissions, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    r.last_seen, r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.roles, null::tenantry.roles)) as r
  on conflict (id) do update set
    key = excluded.key,
    name = excluded.name,
    description = excluded.description,
    permissions = excluded.permissions,
    created_at = excluded.created_at,
    revision = excluded.revision,
    observed_at = excluded.observed_at,
    content_hash = excluded.content_hash,
    needs_refetch = excluded.needs_refetch,
    last_seen = excluded.last_seen,
    last_absent = excluded.last_absent,
    deleted_at = excluded.deleted_at;
  return written;
end
$$;

-- Merges snapshots of every kind, parents before children; answers the ids of the objects that changed.
-- Locks: advisory locks on (tenant), (user), (tenant, user), all at once and in order, so that the transitions written
-- to `changes` are the real ones however many merge at a time: alone where it may begin, end or come back, or is a pair;
-- else shared. Tenants and users that may end or come back do so one transaction after the other: of two that have a
-- member in common, each would find the other live, and both would tell that the member left. Then rows, table by
-- table, each in key order. Before all of them one that merges share, save what must be alone: which locks it takes, a
-- merge reads from the mirror, and an absence that committed between the reading and the locks would make them too few;
-- as would a membership that came to be known while its end, by its id, was merged without its pair's lock.
create or replace function tenantry.merge_snapshots(s tenantry.snapshots)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  firm    constant boolean := coalesce(s.firm, false);
  member  tenantry.tenant_memberships;
  shared  text[] := '{}';
  pairs   text[] := '{}';
  changed text[] := '{}';
begin
  perform case when s.alone then pg_advisory_xact_lock(hashtext('tenantry.merge'), -1)
               else pg_advisory_xact_lock_shared(hashtext('tenantry.merge'), -1) end;

  if s.memberships is not null then
    foreach member in array s.memberships loop
      if member.tenant_id is null then  -- ended, and named by its id alone
        select * into member from tenantry.tenant_memberships as k where k.id = member.id;
      end if;
      shared := shared || array['tenant:' || member.tenant_id, 'user:' || member.user_id];
      pairs := pairs || ('member:' || member.tenant_id || ':' || member.user_id);
    end loop;
  end if;

  perform case when alone then pg_advisory_xact_lock(hashtext('tenantry.merge'), bucket)
               else pg_advisory_xact_lock_shared(hashtext('tenantry.merge'), bucket) end
  from (
    -- 1024 buckets: a page of 500 members must not fill the server's lock table.
    select wanted.bucket, bool_or(alone) as alone
    from (
      select hashtext('tenant:' || t.id) & 1023, k.id is null or turns, turns
      from unnest(s.tenants) as t left join tenantry.tenants as k on k.id = t.id
      cross join lateral (select num_nonnulls(t.deleted_at, t.last_absent, k.last_absent) > 0 as turns) as parent
      union all
      select hashtext('user:' || u.id) & 1023, turns, turns
      from unnest(s.users) as u left join tenantry.users as k on k.id = u.id
      cross join lateral (select num_nonnulls(u.deleted_at, u.last_absent, k.last_absent) > 0 as turns) as parent
      union all select hashtext(name) & 1023, false, false from unnest(shared) as name where name is not null
      union all select hashtext(name) & 1023, true, false from unnest(pairs) as name where name is not null
    ) as named(bucket, alone, turns)
    cross join lateral (select named.bucket union all select 1024 where turns) as wanted(bucket)
    group by 1 order by 1
  ) as locks;

  if exists (select from tenantry.tenants where purged_at is not null) then
    s := tenantry.without_purged(s);
  end if;
  if s.tenants is not null then changed := changed || tenantry.merge_tenants(s.tenants, firm); end if;
  if s.users is not null then changed := changed || tenantry.merge_users(s.users, firm); end if;
  if s.memberships is not null then changed := changed || tenantry.merge_memberships(s.memberships, firm); end if;
  if s.invitations is not null then changed := changed || tenantry.merge_invitations(s.invitations, firm); end if;
  if s.domains is not null then changed := changed || tenantry.merge_domains(s.domains, firm); end if;
  if s.roles is not null then changed := changed || tenantry.merge_roles(s.roles, firm); end if;
  if s.permissions is not null then changed := changed || tenantry.merge_permissions(s.permissions, firm); end if;
  if s.ended_sessions is not null then changed := changed || tenantry.merge_ended_sessions(s.ended_sessions); end if;
  return changed;
end
$$;

-- Merges snapshots of organizations, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order. Key columns stay out
-- of the SET list: with them the upsert would wait for every transaction that inserted a row of the tenant.
-- An absence is held against what memberships showed too: their events saw the organization, and did not write it here.
create or replace function tenantry.merge_tenants(rows tenantry.tenants[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.tenants[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.clerk_org_id) into news, written
  from unnest(rows) as r left join tenantry.tenants as k on k.clerk_org_id = r.clerk_org_id
  where k.id is null or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.tenants (
    id, clerk_org_id, name, slug, image_url, public_metadata, role_set_key, created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.clerk_org_id, r.name, r.slug, r.image_url, r.public_metadata, r.role_set_key, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    greatest(r.last_seen, case when r.last_absent is not null then (
      select max(greatest(m.last_seen, m.deleted_at)) from tenantry.tenant_memberships as m where m.tenant_id = r.id) end),
    r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.tenants, null::tenantry.tenants)) as r
  on conflict (clerk_org_id) do update set
    name = excluded.name,
    slug = excluded.slug,
    image_url = excluded.image_url,
    public_metadata = excluded.public_metadata,
    role_set_key = excluded.role_set_key,
    created_at = excluded.created_at,
    revision = excluded.revision,
    observed_at = excluded.observed_at,
    content_hash = excluded.content_hash,
    needs_refetch = excluded.needs_refetch,
    last_seen = excluded.last_seen,
    last_absent = excluded.last_absent,
    deleted_at = excluded.deleted_at;
  return written;
end
$$;

-- Merges snapshots of users, one row each however often one is in `rows`; answers the ids written.
-- Rows that tell nothing new are neither written nor locked; the others are locked in key order.
create or replace function tenantry.merge_users(rows tenantry.users[], firm boolean)
returns text[] language plpgsql as $$
#variable_conflict use_column
declare
  news    tenantry.users[];
  written text[];
begin
  select array_agg(r), array_agg(distinct r.id) into news, written
  from unnest(rows) as r left join tenantry.users as k on k.id = r.id
  where k.id is null or tenantry.is_news(
    k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0),
    r.last_seen, r.last_absent, r.deleted_at, firm);
  if news is null then
    return '{}';
  end if;
  insert into tenantry.users (
    id, first_name, last_name, username, primary_email, image_url, external_id, banned, public_metadata,
    created_at,
    revision, observed_at, content_hash, needs_refetch, last_seen, last_absent, deleted_at)
  select
    r.id, r.first_name, r.last_name, r.username, r.primary_email, r.image_url, r.external_id,
    coalesce(r.banned, false), r.public_metadata, r.created_at,
    coalesce(r.revision, 0), coalesce(r.observed_at, '-infinity'), coalesce(r.content_hash, 0), coalesce(r.needs_refetch, false),
    r.last_seen, r.last_absent, r.deleted_at
  from unnest(tenantry.fold_snapshots(news, null::tenantry.users, null::tenantry.users)) as r
  on conflict (id) do update set
    first_name = excluded.first_name,
    last_name = excluded.last_name,
    username = excluded.username,
    primary_email = excluded.primary_email,
    image_url = excluded.image_url,
    external_id = excluded.external_id,
    banned = excluded.banned,
    public_metadata = excluded.public_metadata,
    created_at = excluded.created_at,
    revision = excluded.revision,
    observed_at = excluded.observed_at,
    content_hash = excluded.content_hash,
    needs_refetch = excluded.needs_refetch,
    last_seen = excluded.last_seen,
    last_absent = excluded.last_absent,
    deleted_at = excluded.deleted_at;
  return written;
end
$$;

-- The rows of these objects of Clerk, by id: {"<Clerk id>": {...}}; absent where the mirror has none.
create or replace function tenantry.mirrored_rows(kind text, ids text[])
returns jsonb language plpgsql stable as $$
declare
  found jsonb;
begin
  execute format('select jsonb_object_agg(k.%1$I, to_jsonb(k)) from %2$s as k where k.%1$I = any ($1)',
    tenantry.key_of(kind), tenantry.mirrored_table(kind)) using ids into found;
  return coalesce(found, '{}');
end
$$;

-- Where the objects of a kind are kept; TY010 for what is no kind of Clerk's listings.
create or replace function tenantry.mirrored_table(kind text)
returns regclass language plpgsql stable as $$
declare
  name constant text := case when kind in ('users', 'invitations', 'domains', 'roles', 'permissions') then kind
    when kind = 'organizations' then 'tenants' when kind = 'memberships' then 'tenant_memberships' end;
begin
  if name is null then
    perform tenantry.raise_error('TY010', format('unknown kind %L', kind));
  end if;
  return format('tenantry.%I', name)::regclass;
end
$$;

-- Of two memberships of one user in one tenant the current one; null is none.
create or replace function tenantry.newer_membership(a tenantry.tenant_memberships, b tenantry.tenant_memberships)
returns tenantry.tenant_memberships language plpgsql immutable as $$
begin
  if a.id is null or (coalesce(a.created_at, '-infinity'), a.id) < (coalesce(b.created_at, '-infinity'), b.id) then
    return b;
  end if;
  return a;
end
$$;

-- AFTER INSERT, per statement: an object that was not in the mirror and is live has been created. The trigger's
-- argument is the word the feed has for it.
create or replace function tenantry.note_inserted()
returns trigger language plpgsql as $$
declare
  subject    constant text := tg_argv[0];
  deliveries constant jsonb := tenantry.current_deliveries();
  cause      constant text := tenantry.current_cause();
begin
  insert into tenantry.changes (kind, object_id, tenant_id, user_id, after, cause, message_id)
  select
    subject || '.' || case when shown ->> 'status' in ('accepted', 'revoked') then shown ->> 'status' else 'created' end,
    named.object_id,
    case subject when 'tenant' then (shown ->> 'id')::uuid else (shown ->> 'tenant_id')::uuid end,
    case subject when 'user' then named.object_id else shown ->> 'user_id' end,
    tenantry.describe(subject, shown), cause, deliveries ->> named.object_id
  from (
    select shown, coalesce(shown ->> 'clerk_org_id', shown ->> 'clerk_user_id', shown ->> 'id') as object_id
    from (select to_jsonb(n) as shown from new_rows as n where n.ended_at is null offset 0) as live  -- made once a row
    offset 0
  ) as named
  order by shown ->> 'id';
  return null;
end
$$;

-- AFTER INSERT or UPDATE of memberships, per statement: writes what it changed about who is a member, one row for each
-- (tenant, user) whose current membership, the newest one, is another or differs. A pair with an ended tenant or user has
-- no members, whatever its memberships say.
create or replace function tenantry.note_members()
returns trigger language plpgsql as $$
declare
  told       tenantry.changes[] := '{}';
  deliveries constant jsonb := tenantry.current_deliveries();
  cause      constant text := tenantry.current_cause();
  was        tenantry.tenant_memberships;
  now        tenantry.tenant_memberships;
  other      tenantry.tenant_memberships;
  was_live   boolean;
  is_live    boolean;
begin
  if tg_op = 'UPDATE' and not exists (select from new_rows) then  -- an upsert that only inserted
    return null;
  end if;
  if tg_op = 'INSERT' then  -- of nearly every pair it is the only membership: all of those at once
    insert into tenantry.changes (kind, object_id, tenant_id, user_id, after, cause, message_id)
    select 'member.joined', n.id, n.tenant_id, n.user_id, tenantry.describe_member(n), cause, deliveries ->> n.id
    from new_rows as n
    join tenantry.tenants as t on t.id = n.tenant_id and t.ended_at is null
    join tenantry.users as u on u.id = n.user_id and u.ended_at is null
    where n.ended_at is null
      and not exists (select from tenantry.tenant_memberships as k where k.tenant_id = n.tenant_id and k.user_id = n.user_id and k.id <> n.id)
    order by n.tenant_id, n.user_id;
  end if;
  for now in
    select distinct on (n.tenant_id, n.user_id) * from new_rows as n
    where n.tenant_id is not null and n.user_id is not null and (tg_op = 'UPDATE' or exists (
      select from tenantry.tenant_memberships as k where k.tenant_id = n.tenant_id and k.user_id = n.user_id and k.id <> n.id))
    order by n.tenant_id, n.user_id, n.created_at desc nulls last, n.id desc
  loop
    continue when not exists (select from tenantry.tenants as t where t.id = now.tenant_id and t.ended_at is null)
               or not exists (select from tenantry.users as u where u.id = now.user_id and u.ended_at is null);
    select * into other from tenantry.tenant_memberships as k
    where k.tenant_id = now.tenant_id and k.user_id = now.user_id and not exists (select from new_rows as n where n.id = k.id)
    order by k.created_at desc nulls last, k.id desc limit 1;
    was := null;
    if tg_op = 'UPDATE' then
      select * into was from old_rows as o where o.tenant_id = now.tenant_id and o.user_id = now.user_id
      order by o.created_at desc nulls last, o.id desc limit 1;
    end if;
    if other.id is not null then
      was := tenantry.newer_membership(was, other);
      now := tenantry.newer_membership(now, other);
    end if;
    was_live := was.id is not null and was.ended_at is null;
    is_live := now.ended_at is null;
    if was_live <> is_live
       or (is_live and (was.role, was.permissions, was.public_metadata) is distinct from (now.role, now.permissions, now.public_metadata)) then
      told := told || row(null, null,
        case when not was_live then 'member.joined' when not is_live then 'member.left'
             when was.role is distinct from now.role then 'member.role_changed' else 'member.updated' end,
        now.id, now.tenant_id, now.user_id,
        case when was_live then tenantry.describe_member(was) end,
        case when is_live then tenantry.describe_member(now) end,
        cause, deliveries ->> now.id, null)::tenantry.changes;
    end if;
  end loop;
  if cardinality(told) > 0 then
    insert into tenantry.changes (kind, object_id, tenant_id, user_id, before, after, cause, message_id)
    select c.kind, c.object_id, c.tenant_id, c.user_id, c.before, c.after, c.cause, c.message_id from unnest(told) as c;
  end if;
  return null;
end
$$;

-- Keeps what a page of a run has shown: see reconcile_pages. TY021 where another process has taken the run over.
-- A page that came in pieces, in order, is one row in the end. Absences have no number, and leave none.
-- `page`: {"id": <run>, "attempt": n, "part": "<organization or empty>", "number": n, "total": <of the listing>}
create or replace function tenantry.note_page(kind text, page jsonb, ids text[], created bigint, updated bigint)
returns void language plpgsql as $$
#variable_conflict use_column
begin
  perform tenantry.hold_run((page ->> 'id')::bigint, (page ->> 'attempt')::integer);
  if not page ? 'number' then
    return;
  end if;
  insert into tenantry.reconcile_pages (run_id, kind, part, number, total, first_id, last_id, seen, created, updated)
  values ((page ->> 'id')::bigint, note_page.kind, coalesce(page ->> 'part', ''), (page ->> 'number')::integer,
    (page ->> 'total')::integer, ids[1], ids[cardinality(ids)],
    array(select hashtextextended(id, 0) from unnest(ids) as id), note_page.created, note_page.updated)
  on conflict (run_id, kind, part, number) do update set
    total = excluded.total, last_id = excluded.last_id,
    seen = reconcile_pages.seen || excluded.seen,
    created = reconcile_pages.created + excluded.created, updated = reconcile_pages.updated + excluded.updated;
end
$$;

-- AFTER UPDATE of tenants and users, per statement: a member is live when membership, tenant and user all are, so the
-- members of a tenant or user that ended have left, and those of one that came back have joined.
create or replace function tenantry.note_parents_updated()
returns trigger language plpgsql as $$
declare
  parent     constant text := tg_argv[0];
  deliveries jsonb;
begin
  if not exists (select from new_rows as n join old_rows as o on o.id = n.id where (n.ended_at is null) <> (o.ended_at is null)) then
    return null;
  end if;
  deliveries := tenantry.current_deliveries();
  insert into tenantry.changes (kind, object_id, tenant_id, user_id, before, after, cause, message_id)
  select
    case when is_live then 'member.joined' else 'member.left' end, m.id, m.tenant_id, m.user_id,
    case when not is_live then tenantry.describe_member(m) end,
    case when is_live then tenantry.describe_member(m) end,
    tenantry.current_cause(), coalesce(deliveries ->> t.clerk_org_id, deliveries ->> u.id)
  from (select n.id::text as parent_id, n.ended_at is null as is_live from new_rows as n join old_rows as o on o.id = n.id
        where (n.ended_at is null) <> (o.ended_at is null)) as turned
  cross join lateral (
    select * from tenantry.tenant_memberships where parent = 'tenant' and tenant_id = case when parent = 'tenant' then turned.parent_id::uuid end
    union all
    select * from tenantry.tenant_memberships where parent = 'user' and user_id = turned.parent_id
  ) as m
  join tenantry.tenants as t on t.id = m.tenant_id and (parent = 'tenant' or t.ended_at is null)
  join tenantry.users as u on u.id = m.user_id and (parent = 'user' or u.ended_at is null)
  where m.ended_at is null
    and not exists (select from tenantry.tenant_memberships as newer
                    where newer.tenant_id = m.tenant_id and newer.user_id = m.user_id
                      and (coalesce(newer.created_at, '-infinity'), newer.id) > (coalesce(m.created_at, '-infinity'), m.id))
  order by m.id;
  return null;
end
$$;

-- AFTER UPDATE, per statement: what ended, came back, or shows other content while live.
create or replace function tenantry.note_updated()
returns trigger language plpgsql as $$
declare
  told       tenantry.changes[] := '{}';
  subject    constant text := tg_argv[0];
  deliveries constant jsonb := tenantry.current_deliveries();
  cause      constant text := tenantry.current_cause();
  updated    record;
  was        jsonb;
  is_now     jsonb;
  object_id  text;
begin
  if not exists (select from new_rows) then  -- an upsert that only inserted
    return null;
  end if;
  for updated in
    select to_jsonb(o) as was, to_jsonb(n) as is_now, o.ended_at is null as was_live, n.ended_at is null as is_live
    from new_rows as n join old_rows as o on o.id = n.id
    where (o.ended_at is null) <> (n.ended_at is null) or (n.ended_at is null and o.content_hash <> n.content_hash)
    order by n.id
  loop
    was := updated.was;
    is_now := updated.is_now;
    object_id := coalesce(is_now ->> 'clerk_org_id', is_now ->> 'clerk_user_id', is_now ->> 'id');
    told := told || row(null, null,
      subject || '.' || case
        when not updated.is_live then 'deleted'
        when not updated.was_live then 'created'
        when is_now ->> 'status' is distinct from was ->> 'status' and is_now ->> 'status' in ('accepted', 'revoked') then is_now ->> 'status'
        else 'updated'
      end,
      object_id,
      case subject when 'tenant' then (is_now ->> 'id')::uuid else (is_now ->> 'tenant_id')::uuid end,
      case subject when 'user' then object_id else is_now ->> 'user_id' end,
      case when updated.was_live then tenantry.describe(subject, was) end,
      case when updated.is_live then tenantry.describe(subject, is_now) end,
      cause, deliveries ->> object_id, null)::tenantry.changes;
  end loop;
  if cardinality(told) > 0 then
    insert into tenantry.changes (kind, object_id, tenant_id, user_id, before, after, cause, message_id)
    select c.kind, c.object_id, c.tenant_id, c.user_id, c.before, c.after, c.cause, c.message_id from unnest(told) as c;
  end if;
  return null;
end
$$;

-- AFTER INSERT of ended sessions, per statement: see notify_endings. The subject is Clerk's id of the session.
create or replace function tenantry.notify_ended_sessions()
returns trigger language plpgsql as $$
begin
  perform tenantry.tell_endings((
    select case when count(*) <= 16 then array_agg(session_id) else '{*}' end from new_rows having count(*) > 0));
  return null;
end
$$;

-- AFTER INSERT of changes, per statement: tells those who LISTEN on `tenantry_endings` whose access may have ended or
-- shrunk, so that they ask again about their open streams. The subject is Clerk's id of a user or organization, or `*`
-- for everybody: one notice a user, and where a statement ended many, one an organization, and where it ended many of
-- those, one for all. Nothing else notifies: commits that do wait for each other.
create or replace function tenantry.notify_endings()
returns trigger language plpgsql as $$
declare
  most    constant integer := 16;
  people  text[];
  tenants text[];
begin
  if not exists (select from new_rows where tenantry.ends_access(kind, before, after)) then
    return null;
  end if;
  select
    array_agg(distinct case when n.kind ~ '^(role|permission)\.' then '*' else coalesce(n.user_id, n.object_id) end),
    array_agg(distinct coalesce(t.clerk_org_id, t.clerk_user_id, '*'))
  into people, tenants
  from new_rows as n left join tenantry.tenants as t on t.id = n.tenant_id
  where tenantry.ends_access(n.kind, n.before, n.after);

  perform tenantry.tell_endings(
    case when cardinality(people) <= most then people when cardinality(tenants) <= most then tenants else '{*}' end);
  return null;
end
$$;

-- AFTER a change of what concerns every member, the app's own map or the instance: see notify_endings.
create or replace function tenantry.notify_everybody()
returns trigger language plpgsql as $$
begin
  perform tenantry.tell_endings('{*}');
  return null;
end
$$;

-- Reads one delivery: its row of the inbox, what it tells (null for types the mirror does not use), and the Clerk ids
-- it is about. `bound`: the instance this database mirrors, as far as the caller knows. Writes nothing but the first
-- binding to an instance, so what fails here is the event itself: a dead letter. An error of another class is the
-- database's own and goes on to the caller.
create or replace function tenantry.open_letter(
  delivery jsonb, body text, bound text, out letter tenantry.webhook_events, out told tenantry.snapshots, out subjects text[])
language plpgsql as $$
declare
  event jsonb;
  kind  text;
begin
  subjects := '{}';
  letter.message_id := delivery ->> 'message_id';
  letter.digest := sha256(convert_to(body, 'UTF8'));
  event := tenantry.read_body(body);
  letter.org_id := tenantry.organization_of_event(event);  -- first, for a dead letter is found by them too
  letter.user_id := tenantry.user_of_event(event);
  letter.type := tenantry.clerk_text(event, 'type');
  letter.instance_id := tenantry.clerk_text(event, 'instance_id');
  letter.occurred_at := coalesce(
    tenantry.clerk_time(event -> 'timestamp'), tenantry.clerk_time(delivery -> 'sent_at'), clock_timestamp());
  if bound is null or letter.instance_id <> bound then
    perform tenantry.bind_instance(letter.instance_id);
  end if;
  if letter.type is null then
    perform tenantry.raise_error('TY010', 'the event names no type');
  end if;
  kind := tenantry.kind_of_event(letter.type);
  if kind is null then
    letter.outcome := 'ignored';
    return;
  end if;
  told := tenantry.read_event(letter.type, kind, event -> 'data', letter.occurred_at);
  letter.outcome := 'stale';  -- until merging says otherwise
  letter.org_id := coalesce(told.tenants[1].clerk_org_id, letter.org_id);
  letter.user_id := coalesce(told.users[1].id, letter.user_id);
  subjects := array_remove(array[event #>> '{data,id}', letter.org_id, letter.user_id], null);
  -- Of a session nothing is kept: its payload is the person's device and address.
  if kind <> 'sessions' then
    letter.data := tenantry.keep_of_event(event, delivery -> 'keep_private_metadata' is not distinct from 'true');
  end if;
exception
  when sqlstate 'TY018' then
    letter.outcome := 'refused';
    letter.error_code := sqlstate;
    get stacked diagnostics letter.error = pg_exception_detail;
  when sqlstate 'TY010' then
    letter.outcome := 'failed';
    letter.error_code := sqlstate;
    letter.body := tenantry.body_of_dead_letter(body, event, delivery -> 'keep_private_metadata' is not distinct from 'true');
    get stacked diagnostics letter.error = pg_exception_detail;
  when data_exception or program_limit_exceeded then
    letter.outcome := 'failed';
    letter.error_code := sqlstate;
    letter.body := tenantry.body_of_dead_letter(body, event, delivery -> 'keep_private_metadata' is not distinct from 'true');
    letter.error := sqlerrm;  -- not its detail, which quotes the body
end
$$;

-- The id of the organization an object belongs to: embedded, named, or in either place Clerk puts
-- `public_organization_data`.
create or replace function tenantry.organization_of(object jsonb)
returns text language plpgsql immutable parallel safe as $$
declare
  id text := tenantry.clerk_text(object -> 'organization', 'id');
begin
  if id is not null then
    return id;
  end if;
  return coalesce(
    tenantry.clerk_text(object, 'organization_id'),
    tenantry.clerk_text(object -> 'public_organization_data', 'id'),
    tenantry.clerk_text(object #> '{data,public_organization_data}', 'id'));
end
$$;

-- The id of the organization an event is about, or that its membership, invitation or domain names; null for other
-- types, and for what is no id.
create or replace function tenantry.organization_of_event(event jsonb)
returns text language plpgsql immutable parallel safe as $$
declare
  kind constant text := tenantry.kind_of_event(event ->> 'type');
  id   constant text := case
    when kind = 'organizations' then tenantry.clerk_text(event -> 'data', 'id')
    when kind in ('memberships', 'invitations', 'domains') then tenantry.organization_of(event -> 'data')
  end;
begin
  return case when length(id) <= 255 then id end;
end
$$;

-- All partitions and inheritance children of a table, at any depth.
create or replace function tenantry.partitions_of(relation regclass)
returns regclass[] language sql stable as $$
  with recursive below(relation) as (
    select inhrelid::regclass from pg_inherits where inhparent = partitions_of.relation
    union select i.inhrelid::regclass from pg_inherits as i join below on i.inhparent = below.relation
  )
  select coalesce(array_agg(relation order by relation::text), '{}') from below
$$;

-- A pattern that finds a user's id and these addresses in a text, as words of their own: `ana@example.com` in
-- `Ana <ana@example.com>`, not in `joana@example.com`. In JSON that nobody could read, what precedes may be a `\n`.
create or replace function tenantry.pattern_of(user_id text, emails text[])
returns text language sql immutable as $$
  select '(?:\m|(?<=\\[bfnrt]))' || user_id || '\M'
    || coalesce('|(?:(?<![\w.%+-])|(?<=\\[bfnrt]))(?:' || string_agg(regexp_replace(address, '(\W)', '\\\1', 'g'), '|') || ')(?![\w-]|\.\w)', '')
  from unnest(emails) as address
$$;

-- Whether a pattern of `role_permissions` covers an app permission: segments are split by `:`, `*` stands for one
-- segment, a trailing `*` for one or more, `*` alone for everything. What is no well-formed permission is covered by
-- none. The same as `roles.matches` in Python; tests/vectors/can.json holds both to it.
create or replace function tenantry.permission_matches(pattern text, permission text)
returns boolean language sql immutable parallel safe as $$
  select coalesce(
    length(permission) <= 200 and permission ~ '^[a-z0-9_.-]+(:[a-z0-9_.-]+)*$'
    and (cardinality(given) = cardinality(wanted) or (wanted[cardinality(wanted)] = '*' and cardinality(given) > cardinality(wanted)))
    and not exists (select from generate_subscripts(wanted, 1) as n where wanted[n] <> '*' and wanted[n] <> given[n]), false)
  from (select string_to_array(pattern, ':'), string_to_array(permission, ':')) as split(wanted, given)
$$;

-- Gives up to `most` committed changes their place in the order of reading; answers how many. Its callers hold the
-- sequencer's lock, and never two at a time: see sequence_changes_v1.
create or replace function tenantry.place_changes(most integer)
returns bigint language plpgsql as $$
declare
  placed bigint;
begin
  with placed as (
    update tenantry.changes as c set pos = next.pos
    from (select seq, nextval('tenantry.changes_pos') as pos
          from (select seq from tenantry.changes where pos is null order by seq limit most) as unplaced) as next
    where c.seq = next.seq
    returning 1
  )
  select count(*) into placed from placed;
  return placed;
end
$$;

-- Gives a table its tenant column: there, filled, NOT NULL, by default the current tenant, led by an index and, where
-- it holds our ids, tied to tenants. Never ADD COLUMN .. DEFAULT current_tenant_id(): that stamps every row at once.
create or replace function tenantry.prepare_tenant_column(relation regclass, tenant_column name, tenant_key text, backfill text)
returns void language plpgsql as $$
declare
  wanted  constant regtype := case tenant_key when 'id' then 'uuid' else 'text' end;
  actual  regtype;
  filled  boolean;
  tenant  tenantry.tenants;
  orphans boolean := false;
begin
  select a.atttypid::regtype, a.attnotnull into actual, filled from pg_attribute as a
  where a.attrelid = relation and a.attname = tenant_column and not a.attisdropped;
  if actual is null then
    execute format('alter table %s add column %I %s', relation, tenant_column, wanted);
  elsif actual <> wanted and not (wanted = 'text'::regtype and actual = 'varchar'::regtype) then
    perform tenantry.raise_error('TY030', format('%s.%I is %s; the key %s needs %s', relation, tenant_column, actual, tenant_key, wanted));
  end if;

  if filled is distinct from true then  -- else a scan, under the lock, would tell nothing new
    execute format('select exists (select from %s where %I is null)', relation, tenant_column) into orphans;
  end if;
  if orphans and backfill is not null then
    tenant := tenantry.find_tenant(backfill);
    if tenant_key = 'clerk_org_id' and tenant.clerk_org_id is null then
      perform tenantry.raise_error('TY030', format('%s is a personal account: it has no organization id to write into %s', backfill, relation));
    end if;
    execute format('update %s set %I = %L where %2$I is null', relation, tenant_column,
      case tenant_key when 'id' then tenant.id::text else tenant.clerk_org_id end);
  elsif orphans then
    perform tenantry.raise_error('TY030', format(
      '%s holds rows of no tenant: name whose they are with the option "backfill", or move the app over with `tenantry adopt`', relation));
  end if;

  execute format('alter table %s alter column %I set default tenantry.current_%s(), alter column %2$I set not null',
    relation, tenant_column, case tenant_key when 'id' then 'tenant_id' else 'org_id' end);
  if not exists (
      select from pg_index as i join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
      where i.indrelid = relation and a.attname = tenant_column and i.indpred is null and i.indisvalid) then
    execute format('create index on %s (%I)', relation, tenant_column);
  end if;
  -- Clerk's own ids may stand here before the mirror has seen them: only ours get a foreign key.
  if tenant_key = 'id' and not exists (
      select from pg_constraint where conrelid = relation and contype = 'f' and confrelid = 'tenantry.tenants'::regclass) then
    execute format('alter table %s add foreign key (%I) references tenantry.tenants (id)', relation, tenant_column);
  end if;
end
$$;

-- What merging snapshots would change about these objects, without merging them: they are merged and taken back.
-- Answers [{"id", "field", "mirror", "clerk", "org_id", "user_id", "changed_at": <ms, Clerk's updated_at>}, ...]; the field
-- `exists` stands for an object that the mirror lacks, or has and should not.
create or replace function tenantry.preview_snapshots(kind text, ids text[], s tenantry.snapshots)
returns jsonb language plpgsql as $$
declare
  before jsonb := tenantry.mirrored_rows(kind, ids);
  after  jsonb;
begin
  begin
    perform tenantry.merge_snapshots(s);
    after := tenantry.mirrored_rows(kind, ids);
    raise exception using errcode = 'TY000';
  exception when sqlstate 'TY000' then null;
  end;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('id', id, 'field', field, 'mirror', was, 'clerk', is_now,
        'org_id', (select t.clerk_org_id from tenantry.tenants as t where t.id::text = shown ->> 'tenant_id'),
        'user_id', shown -> 'user_id', 'changed_at', case when new -> 'ended_at' = 'null' then nullif(shown -> 'revision', '0') end) order by id, field), '[]')
    from unnest(ids) as id
    cross join lateral (select before -> id as old, after -> id as new) as row
    cross join lateral (
      select 'exists' as field, to_jsonb(coalesce(old -> 'ended_at' = 'null', false)) as was, to_jsonb(coalesce(new -> 'ended_at' = 'null', false)) as is_now
      union all
      select key, old -> key, value from jsonb_each(new)
      where old -> 'ended_at' = 'null' and new -> 'ended_at' = 'null' and key <> all (
        '{id,tenant_id,revision,observed_at,content_hash,last_seen,last_absent,deleted_at,needs_refetch,ended_at}')
    ) as fields
    cross join lateral (select coalesce(new, old) as shown) as told
    where was is distinct from is_now);
end
$$;

-- Sends a notice to whoever listens on `tenantry_endings`: how a listener learns, over another connection, that notices
-- reach it. Behind a pooler that serves each transaction by another connection they do not.
--
-- nonce:   returned to the listener as `probe <nonce>`
-- returns: {}; raises TY010 where there is no nonce, or a long one
--
-- Who may call: tenantry_app.
create or replace function tenantry.probe_endings_v1(nonce text)
returns jsonb language plpgsql as $$
begin
  if coalesce(nonce, '') !~ '^[A-Za-z0-9_-]{1,64}$' then
    perform tenantry.raise_error('TY010', 'a nonce has 1 to 64 characters of A-Z, a-z, 0-9, _ and -');
  end if;
  perform pg_notify('tenantry_endings', 'probe ' || nonce);
  return '{}';
end
$$;

-- Creates an unknown tenant and user from a verified token's claims, which prove that both exist: a stub each, named
-- when a snapshot comes. Never a membership: a token has no membership id.
--
-- identity: as set_tenant_v1
-- returns:  {"tenant_id": uuid, "created": ["<Clerk id>", ...]}
--
-- Who may call: tenantry_app, in a transaction of its own, before the app's begins: within it, a second first request
-- and the webhook of that organization would wait for the app.
create or replace function tenantry.provision_v1(identity jsonb)
returns jsonb language plpgsql security definer
set search_path = pg_catalog, tenantry, pg_temp
set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  facts     constant tenantry.identity_facts := tenantry.read_identity(identity);
  user_id   constant text := facts.user_id;
  org_id    constant text := nullif(facts.org_id, '');
  snapshots tenantry.snapshots;
  tenant    tenantry.tenants;
  person    tenantry.users;
  changed   text[];
begin
  if to_timestamp(facts.expires_at::double precision) <= now() then
    perform tenantry.raise_error('TY019', format('user %s', user_id));
  elsif org_id is null and facts.personal_account is distinct from 'true' then
    perform tenantry.raise_error('TY017', format('user %s', user_id));
  end if;
  perform tenantry.bind_instance(nullif(facts.instance_id, ''));
  perform tenantry.state_cause('token');
  person.id := user_id;
  snapshots.users := array[person];
  if org_id is not null then
    tenant.id := tenantry.tenant_id_of(org_id);
    tenant.clerk_org_id := org_id;
    snapshots.tenants := array[tenant];
  end if;
  changed := tenantry.merge_snapshots(snapshots);
  if org_id is null then
    insert into tenantry.tenants (id, clerk_user_id) values (tenantry.derive_tenant_id(tenantry.bound_instance(), user_id), user_id)
    on conflict do nothing;
  end if;
  return jsonb_build_object('created', to_jsonb(changed), 'tenant_id',
    (select t.id from tenantry.tenants t where t.clerk_org_id = org_id or (org_id is null and t.clerk_user_id = user_id)));
end
$$;

-- Deletes what the mirror, the inbox and the feed hold of a deleted tenant, a part a call, each in a transaction of its own.
-- Memberships, invitations and domains go; deliveries about it, dead letters too, keep no content; of its changes the feed
-- keeps that they happened; the tenant's row keeps its ids, and that it was deleted, for ever.
--
-- options: {"limit": rows a call; 1000 unless given, "after": <seq, as the answer before said>}
-- returns: {"table": <what was done>, "rows": n, "after": seq, "done": whether there is nothing more to do}
-- raises:  TY010 unless end_tenant_v1 made its end final; TY020 where no tenant has this id
--
-- Who may call: tenantry_app, when the tenant's rows in isolated tables are gone. Locks: as end_tenant_v1, so that what
-- is merged meanwhile is either found here, or finds the tenant purged (without_purged, answer_batch).
create or replace function tenantry.purge_tenant_v1(id text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  tenant  constant tenantry.tenants := tenantry.find_tenant(id);
  most    integer;
  since   bigint;
  upto    bigint;
  kept    text;
  deleted bigint;
begin
  if coalesce(options ->> 'limit', '1000') !~ '^[1-9]\d{0,5}$' or coalesce(options ->> 'after', '0') !~ '^\d{1,17}$' then
    perform tenantry.raise_error('TY010', 'limit is a whole number up to 999999, after one up to 17 digits');
  elsif tenant.deleted_at is null then
    perform tenantry.raise_error('TY010', format('tenant %s is not deleted', id));
  end if;
  most := coalesce(options ->> 'limit', '1000');
  since := coalesce(options ->> 'after', '0');
  upto := since + 20 * most;
  perform tenantry.lock_tenant(tenant.id);
  foreach kept in array array['tenant_memberships', 'invitations', 'domains'] loop
    execute format('delete from tenantry.%I where id = any (array(select id from tenantry.%1$I where tenant_id = $1 limit $2))', kept)
    using tenant.id, most;
    get diagnostics deleted = row_count;
    if deleted > 0 then
      return jsonb_build_object('table', 'tenantry.' || kept, 'rows', deleted, 'after', 0, 'done', false);
    end if;
  end loop;
  deleted := tenantry.empty_letters(array(
    select message_id from tenantry.webhook_events
    where org_id = tenant.clerk_org_id and (data is not null or body is not null)
    union all
    select message_id from tenantry.webhook_events
    where outcome = 'failed' and body is not null and num_nonnulls(org_id, user_id) = 0  -- nobody could read whose it is
      and tenantry.body_tells_of(body, tenantry.pattern_of(tenant.clerk_org_id, '{}'))
    limit most));
  if deleted > 0 then
    return jsonb_build_object('table', 'tenantry.webhook_events', 'rows', deleted, 'after', 0, 'done', false);
  end if;
  update tenantry.changes as c set before = null, after = null
  where c.seq > since and c.seq <= upto and c.tenant_id = tenant.id and (c.before is not null or c.after is not null);
  get diagnostics deleted = row_count;
  if exists (select from tenantry.changes where seq > upto) then
    return jsonb_build_object('table', 'tenantry.changes', 'rows', deleted, 'after', upto, 'done', false);
  end if;
  update tenantry.tenants as t set purged_at = coalesce(t.purged_at, now()), name = null, slug = null, image_url = null,
    public_metadata = null, role_set_key = null
  where t.id = tenant.id;
  return jsonb_build_object('table', 'tenantry.changes', 'rows', deleted, 'after', upto, 'done', true);
end
$$;

-- Raises Tenantry's error `code`: message and hint stand here, once; what happened goes into `detail`.
-- Called by every other function; adapters map the SQLSTATE, never the text. Locks nothing.
create or replace function tenantry.raise_error(code text, detail text default null)
returns void language plpgsql as $$
declare
  message text;
  hint    text;
begin
  select known.message, known.hint into message, hint
  from (values
    ('TY001', 'No tenant is set for this transaction.',
              'Begin it with tenantry.set_tenant_v1(identity), set_tenant_by_id_v1(tenant_id, reason) or bypass_tenant_v1(reason).'),
    ('TY002', 'This transaction already has a tenant or the bypass.',
              'One transaction serves one tenant: commit or roll back before the next.'),
    ('TY003', 'This connection still holds a temporary table of a tenant, or a cursor WITH HOLD.',
              'Create it ON COMMIT DROP, close the cursor before the commit, or DISCARD ALL before the connection serves on.'),
    ('TY010', 'A function of tenantry got an argument it cannot read.', null),
    ('TY011', 'The mirror has not seen this organization or user yet.',
              'Call tenantry.provision_v1(identity) in a transaction of its own, then begin again.'),
    ('TY012', 'The user is not a member of this organization.', null),
    ('TY013', 'This organization has been deleted.', null),
    ('TY014', 'This user has been deleted.', null),
    ('TY015', 'This user is banned.', null),
    ('TY016', 'This session has ended.', 'Sign in again.'),
    ('TY017', 'The session has no active organization.', 'Choose an organization, or allow personal accounts.'),
    ('TY018', 'This belongs to another Clerk instance than this database.',
              'Compare the Clerk keys with `tenantry instance show`; after copying a database, `tenantry instance rebind`.'),
    ('TY019', 'The session token has expired and the mirror knows no live membership.', 'Get a fresh token.'),
    ('TY020', 'No tenant has this id.', 'See `tenantry tenants list`.'),
    ('TY021', 'A reconcile run is under way already.', 'Wait for it to end.'),
    ('TY030', 'This table cannot be isolated or shared as asked.', null),
    ('TY040', 'This tenant is a personal account and has no organization id.', 'Isolate by the key `id` where personal accounts are tenants.')
  ) as known(code, message, hint)
  where known.code = raise_error.code;

  raise exception using
    errcode = code,
    message = coalesce(message, 'tenantry error ' || code),
    detail = coalesce(detail, ''),
    hint = coalesce(hint, '');
end
$$;

-- Raises the alarm: {"since": <as watch_silence_v1 said>, "changed_at": <ms, Clerk's clock>} -> {"raised": bool}: true for
-- one caller, once, and false where a delivery has come meanwhile. Raises TY010. Who may call: tenantry_app.
create or replace function tenantry.raise_silence_v1(silence jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  changed constant timestamptz := tenantry.clerk_time(silence -> 'changed_at');
begin
  if changed is null or jsonb_typeof(silence -> 'since') is distinct from 'string' then
    perform tenantry.raise_error('TY010', 'since or changed_at is missing');
  end if;
  update tenantry.silence as s set raised_at = clock_timestamp(), changed_at = changed
  where s.since = (silence ->> 'since')::timestamptz and s.since = tenantry.silent_since() and s.raised_at is null;
  return jsonb_build_object('raised', found);
end
$$;

-- A delivery's JSON. What PostgreSQL cannot hold as jsonb (numbers out of range, absurd nesting) may stand in
-- `unsafe_metadata`, which users write themselves, of a user or of the user a session shows: it must not hide what else
-- the event says, a ban or a session's end above all. So what the mirror does not read is left out then.
create or replace function tenantry.read_body(body text)
returns jsonb language plpgsql immutable as $$
begin
  return body::jsonb;
exception when data_exception or program_limit_exceeded then
  return (
    select jsonb_object_agg(e.key, case when e.key = 'data' and json_typeof(e.value) = 'object' then (
        select jsonb_object_agg(d.key, d.value::text::jsonb) from json_each(e.value) as d
        where d.key not in ('unsafe_metadata', 'user', 'organization_memberships'))
      else e.value::text::jsonb end)
    from json_each(body::json) as e);
end
$$;

-- The changes after a position, in order: {"after": <pos, default 0>, "limit": <default 100, at most 1000>} ->
-- {"changes": [{"pos", "kind", "object_id", "tenant_id", "user_id", "before", "after", "cause", "message_id", "at"}, ...],
--  "pos": <of the last one, or `after`>}. Reads what sequence_changes_v1 has placed.
-- Raises TY010 where either is no whole number from 0 on. Who may call: tenantry_app.
create or replace function tenantry.read_changes_v1(options jsonb default '{}')
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  start bigint;
  count integer;
begin
  if coalesce(options ->> 'after', '0') !~ '^\d{1,18}$' or coalesce(options ->> 'limit', '0') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'after and limit are whole numbers');
  end if;
  start := coalesce((options ->> 'after')::bigint, 0);
  count := least(coalesce((options ->> 'limit')::integer, 100), 1000);
  return (
    select jsonb_build_object('changes', coalesce(jsonb_agg(to_jsonb(c) - 'seq' order by c.pos), '[]'), 'pos', coalesce(max(c.pos), start))
    from (select * from tenantry.changes where pos > start order by pos limit count) as c);
end
$$;

-- What a consumer is to be told next. Writes nothing, and tells nobody that it was asked: see enter_change_v1.
--
-- options: {"kinds": ["member.*", ...], default ["*"]; "limit": how many changes to look at, default 100, at most 1000}
-- returns: {"state": "ready", "pos": <dealt with so far>, "changes": [as read_changes_v1, of these kinds],
--           "reached": <the last one looked at>, "more": true or false}
--          {"state": "waiting", "pos", "retry_in": <seconds>}: its handler failed
--          {"state": "parked", "pos"}: it waits for resume_consumer_v1
--          {"state": "busy", "pos"}: there is something to tell, and somebody else is telling it
--          {"state": "absent", "pos": 0}: there is no such consumer
-- Changes of a tenant that is no longer in the mirror at all are told to nobody. Raises TY010.
--
-- Who may call: tenantry_app.
create or replace function tenantry.read_consumer_v1(consumer text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  wanted constant text[] := coalesce(tenantry.clerk_texts(options, 'kinds'), '{*}');
  most   integer;
  known  tenantry.consumers;
  answer jsonb;
begin
  if coalesce(options ->> 'limit', '0') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'limit is a whole number');
  end if;
  most := least(coalesce((options ->> 'limit')::integer, 100), 1000);
  select * into known from tenantry.consumers as c where c.name = consumer;
  if known.name is null then
    return jsonb_build_object('state', 'absent', 'pos', 0);
  elsif known.parked_at is not null then
    return jsonb_build_object('state', 'parked', 'pos', known.pos);
  elsif known.retry_at > clock_timestamp() then
    return jsonb_build_object('state', 'waiting', 'pos', known.pos, 'retry_in', extract(epoch from known.retry_at - clock_timestamp()));
  end if;

  select jsonb_build_object(
    'state', 'ready', 'pos', known.pos, 'reached', coalesce(max(c.pos), known.pos), 'more', count(*) = most,
    'changes', coalesce(jsonb_agg(to_jsonb(c) - 'seq' order by c.pos) filter (
      where tenantry.is_of_kinds(c.kind, wanted)
        and (c.tenant_id is null or exists (select from tenantry.tenants as t where t.id = c.tenant_id))), '[]'))
  into answer
  from (select * from tenantry.changes where pos > known.pos order by pos limit most) as c;
  -- The row's lock is asked for only now: to take it is to write, and who finds nothing should not.
  if answer -> 'changes' <> '[]' then
    perform from tenantry.consumers as c where c.name = consumer for no key update skip locked;
    if not found then
      return jsonb_build_object('state', 'busy', 'pos', known.pos);
    end if;
  end if;
  return answer;
end
$$;

-- Clerk's OrganizationDomain object as a row of `domains`.
create or replace function tenantry.read_domain(object jsonb, tenant_id uuid, observed_at timestamptz)
returns tenantry.domains language plpgsql stable as $$
declare
  d tenantry.domains;
begin
  d.id := tenantry.clerk_text(object, 'id');
  d.tenant_id := tenant_id;
  d.name := tenantry.clerk_text(object, 'name');
  d.enrollment_mode := tenantry.clerk_text(object, 'enrollment_mode');
  -- `verification` is the older name of the ownership's; events carry either.
  d.verified := coalesce(object #>> '{ownership_verification,status}', object #>> '{verification,status}') = 'verified';
  d.created_at := tenantry.clerk_time(object -> 'created_at');
  d.revision := tenantry.clerk_revision(object);
  d.observed_at := observed_at;
  d.content_hash := hashtextextended(jsonb_build_array(d.name, d.enrollment_mode, d.verified)::text, 0);
  d.last_seen := observed_at;
  return d;
end
$$;

-- Objects known to be gone, as snapshots of revision 0: `final` for deletions by an event, else absences from a
-- complete listing, each confirmed by a request of its own at `gone_at`.
create or replace function tenantry.read_endings(kind text, ids text[], gone_at timestamptz, final boolean)
returns tenantry.snapshots language plpgsql stable as $$
declare
  deleted constant timestamptz := case when final then gone_at end;
  absent  constant timestamptz := case when not final then gone_at end;
  s       tenantry.snapshots;
  gone_id text;
  tenant tenantry.tenants; person tenantry.users; membership tenantry.tenant_memberships;
  invitation tenantry.invitations; domain tenantry.domains; role tenantry.roles; permission tenantry.permissions;
begin
  perform tenantry.check_ids(variadic ids);
  foreach gone_id in array ids loop
    case kind
      when 'organizations' then
        tenant.id := tenantry.tenant_id_of(gone_id);
        tenant.clerk_org_id := gone_id;
        tenant.deleted_at := deleted;
        tenant.last_absent := absent;
        s.tenants := s.tenants || tenant;
        s.alone := not final;
      when 'users' then
        person.id := gone_id;
        person.deleted_at := deleted;
        person.last_absent := absent;
        s.users := s.users || person;
        s.alone := not final;
      when 'memberships' then
        membership.id := gone_id;
        membership.deleted_at := deleted;
        membership.last_absent := absent;
        s.memberships := s.memberships || membership;
        s.alone := true;
      when 'invitations' then
        invitation.id := gone_id;
        invitation.deleted_at := deleted;
        invitation.last_absent := absent;
        s.invitations := s.invitations || invitation;
      when 'domains' then
        domain.id := gone_id;
        domain.deleted_at := deleted;
        domain.last_absent := absent;
        s.domains := s.domains || domain;
      when 'roles' then
        role.id := gone_id;
        role.deleted_at := deleted;
        role.last_absent := absent;
        s.roles := s.roles || role;
      when 'permissions' then
        permission.id := gone_id;
        permission.deleted_at := deleted;
        permission.last_absent := absent;
        s.permissions := s.permissions || permission;
      else
        perform tenantry.raise_error('TY010', format('unknown kind %L', kind));
    end case;
  end loop;
  return s;
end
$$;

-- What an event of Clerk tells of its object, as snapshots. Tolerant: only the ids it needs are required (TY010 without
-- them). `kind`: the type's, see kind_of_event; `observed_at`: Clerk's clock when the event was true.
create or replace function tenantry.read_event(type text, kind text, object jsonb, observed_at timestamptz)
returns tenantry.snapshots language plpgsql stable as $$
declare
  verb constant text := split_part(type, '.', 2);
  id   constant text := tenantry.clerk_text(object, 'id');
  s    tenantry.snapshots;
begin
  if id is null then
    perform tenantry.raise_error('TY010', format('%s carries no id', type));
  elsif verb = 'deleted' and (kind <> 'memberships' or tenantry.organization_of(object) is null or tenantry.user_of(object) is null) then
    s := tenantry.read_endings(kind, array[id], observed_at, true);
  else
    s := tenantry.read_objects(kind, array[object], observed_at, verb);
    if verb = 'deleted' then
      -- The one deletion that shows the whole object, as it was.
      s.memberships[1].deleted_at := observed_at;
    end if;
  end if;
  s.firm := true;
  return s;
end
$$;

-- One delivery, as the inbox has it, and what it changed; null where there is none.
--
-- returns: what list_events_v1 says of it, {"instance_id", "data": the event, "body": a dead letter's text as it came,
--           "changes": [{"pos", "kind", "object_id", "tenant_id", "user_id", "before", "after", "at"}, ...]}
--
-- Who may call: tenantry_app.
create or replace function tenantry.read_event_v1(message_id text)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp set jit = off as $$
begin
  return coalesce((
    select to_jsonb(e) - 'digest' || jsonb_build_object('changes', (
      select coalesce(jsonb_agg(to_jsonb(c) - '{seq,cause,message_id}'::text[] order by c.seq), '[]')
      from tenantry.changes as c where c.message_id = e.message_id))
    from tenantry.webhook_events as e where e.message_id = read_event_v1.message_id), 'null');
end
$$;

-- A verified token's facts, out of its JSON in one go: what runs at the start of every transaction pays for each
-- operator. Refuses (TY010) an identity without the facts every decision needs; times are seconds since 1970.
create or replace function tenantry.read_identity(identity jsonb)
returns tenantry.identity_facts language plpgsql immutable as $$
declare
  facts tenantry.identity_facts;
begin
  if jsonb_typeof(identity) is distinct from 'object' then
    perform tenantry.raise_error('TY010', 'the identity is no object');
  end if;
  facts := jsonb_populate_record(facts, identity);
  if coalesce(facts.user_id, '') = '' then
    perform tenantry.raise_error('TY010', 'the identity lacks user_id');
  elsif (facts.issued_at between '0' and '1e11') is not true then  -- jsonb orders every number apart from all else
    perform tenantry.raise_error('TY010', 'the identity lacks issued_at (seconds)');
  elsif (facts.expires_at between '0' and '1e11') is not true then
    perform tenantry.raise_error('TY010', 'the identity lacks expires_at (seconds)');
  end if;
  return facts;
end
$$;

-- Clerk's OrganizationInvitation object as a row of `invitations`. `status` is what its event says where the object
-- itself has none. The link to accept is a secret and is not kept.
create or replace function tenantry.read_invitation(object jsonb, tenant_id uuid, observed_at timestamptz, status text default null)
returns tenantry.invitations language plpgsql stable as $$
declare
  i tenantry.invitations;
begin
  i.id := tenantry.clerk_text(object, 'id');
  i.tenant_id := tenant_id;
  i.email_address := tenantry.clerk_text(object, 'email_address');
  i.role := tenantry.role_key(tenantry.clerk_text(object, 'role'));
  i.status := coalesce(status, tenantry.clerk_text(object, 'status'));
  i.inviter_id := tenantry.clerk_text(object, 'inviter_id');
  i.user_id := tenantry.clerk_text(object, 'user_id');
  i.public_metadata := tenantry.clerk_object(object, 'public_metadata');
  i.expires_at := tenantry.clerk_time(object -> 'expires_at');
  i.created_at := tenantry.clerk_time(object -> 'created_at');
  i.revision := tenantry.clerk_revision(object);
  i.observed_at := observed_at;
  i.content_hash := hashtextextended(jsonb_build_array(
    i.email_address, i.role, i.status, i.user_id, i.public_metadata, extract(epoch from i.expires_at))::text, 0);  -- in no time zone
  i.last_seen := observed_at;
  return i;
end
$$;

-- Clerk's OrganizationMembership object as a row of `tenant_memberships`.
create or replace function tenantry.read_membership(object jsonb, tenant_id uuid, user_id text, observed_at timestamptz)
returns tenantry.tenant_memberships language plpgsql stable as $$
declare
  m tenantry.tenant_memberships;
begin
  m.id := tenantry.clerk_text(object, 'id');
  m.tenant_id := tenant_id;
  m.user_id := user_id;
  m.role := tenantry.role_key(tenantry.clerk_text(object, 'role'));
  m.permissions := coalesce(tenantry.clerk_texts(object, 'permissions'), '{}');
  m.public_metadata := tenantry.clerk_object(object, 'public_metadata');
  m.created_at := tenantry.clerk_time(object -> 'created_at');
  m.revision := tenantry.clerk_revision(object);
  m.observed_at := observed_at;
  m.content_hash := hashtextextended(jsonb_build_array(m.role, m.permissions, m.public_metadata)::text, 0);
  m.last_seen := observed_at;
  return m;
end
$$;

-- A page of Clerk's OrganizationMembership objects as snapshots: what read_objects makes of them, in one statement. What
-- many members share is read once, and what could not be news is left out, parents too: it need not be locked. Tables
-- are looked up by scalar subqueries: a join planned while they were empty would read them whole ever after.
create or replace function tenantry.read_memberships(objects jsonb, observed_at timestamptz)
returns tenantry.snapshots language plpgsql stable set enable_hashjoin = on as $$
#variable_conflict use_column
declare
  seen_at  constant timestamptz := observed_at;
  readable boolean;
  s        tenantry.snapshots;
begin
  with shown as materialized (
    select
      tenantry.clerk_text(object, 'id') as id, object -> 'organization' as organization,
      coalesce(tenantry.clerk_text(object -> 'organization', 'id'), tenantry.organization_of(object)) as org_id,
      coalesce(tenantry.clerk_text(object -> 'public_user_data', 'user_id'), tenantry.clerk_text(object, 'user_id')) as user_id,
      tenantry.role_key(tenantry.clerk_text(object, 'role')) as role, coalesce(object -> 'permissions', 'null') as listed,
      tenantry.clerk_object(object, 'public_metadata') as public_metadata,
      object -> 'created_at' as made, nullif(object -> 'updated_at', object -> 'created_at') as updated
    from jsonb_array_elements(objects) as object
  ), parents as materialized (
    select org_id, known_id, case when known_id is null or organization is not null then tenantry.read_parent(organization, org_id, seen_at) end as tenant
    from (
      select org_id, organization, (select t.id from tenantry.tenants as t where t.clerk_org_id = org_id) as known_id
      from (select distinct org_id, organization from shown where org_id is not null) as parent
      offset 0
    ) as looked_up
  ), places as materialized (
    select distinct on (org_id) org_id, coalesce(known_id, (tenant).id) as tenant_id from parents
  ), held as materialized (
    select listed, coalesce(tenantry.clerk_texts(jsonb_build_object('permissions', listed), 'permissions'), '{}') as permissions
    from (select distinct listed from shown) as lists
  ), timed as materialized (
    select m.*, tenantry.clerk_time(made) as created_at, tenantry.clerk_time(updated) as updated_at from shown as m
  ), read as materialized (
    select id, tenant_id, user_id, role, permissions, public_metadata, created_at,
      coalesce((extract(epoch from coalesce(updated_at, created_at)) * 1000)::bigint, 0) as revision,
      hashtextextended(jsonb_build_array(role, permissions, public_metadata)::text, 0) as content_hash
    from timed join places using (org_id) join held using (listed)
  )
  select
    (select array_agg(tenant) from parents where (tenant).id is not null),
    (select array_agg(jsonb_populate_record(null::tenantry.users, jsonb_build_object('id', user_id)))
     from (select distinct user_id from shown where user_id is not null) as people
     where (select u.id from tenantry.users as u where u.id = user_id) is null),
    (select array_agg(row(
       id, tenant_id, user_id, role, permissions, public_metadata, created_at, revision, seen_at, content_hash,
       seen_at, null, null, null, null)::tenantry.tenant_memberships)
     from read where coalesce((
       select tenantry.is_news(
         k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
         read.revision, seen_at, read.content_hash, seen_at, null, null, false)
       from tenantry.tenant_memberships as k where k.id = read.id), true)),
    (select bool_and(id is not null and org_id is not null and user_id is not null
       and greatest(length(id), length(org_id), length(user_id)) <= 255) from shown)
  into s.tenants, s.users, s.memberships, readable;
  if not readable then
    return tenantry.read_objects('memberships', array(select jsonb_array_elements(objects)), seen_at);  -- says what is wrong
  end if;
  return s;
end
$$;

-- Objects of Clerk, from an event or an API page, as snapshots; `verb` is the event's and names an invitation's status.
-- What an object shows of its organization and user comes along: a mere id makes a stub of revision 0, which outranks
-- nothing.
create or replace function tenantry.read_objects(kind text, objects jsonb[], observed_at timestamptz, verb text default '')
returns tenantry.snapshots language plpgsql stable as $$
declare
  s       tenantry.snapshots;
  object  jsonb;
  id      text;
  org_id  text;
  user_id text;
  tenant  tenantry.tenants;
  person  tenantry.users;
begin
  foreach object in array objects loop
    id := tenantry.clerk_text(object, 'id');
    org_id := tenantry.organization_of(object);
    user_id := tenantry.user_of(object);
    if id is null then
      perform tenantry.raise_error('TY010', format('an object of %s carries no id', kind));
    end if;
    if greatest(length(id), length(org_id), length(user_id), length(object ->> 'key')) > 255 then
      perform tenantry.check_ids(id, org_id, user_id, tenantry.clerk_text(object, 'key'));
    end if;
    if kind in ('memberships', 'invitations', 'domains') then
      tenant := null;
      if org_id is not null then
        tenant := tenantry.read_parent(object -> 'organization', org_id, observed_at);
        s.tenants := s.tenants || tenant;
      end if;
      if user_id is not null then
        person.id := user_id;
        s.users := s.users || person;
      end if;
    end if;
    case kind
      when 'organizations' then
        s.tenants := s.tenants || tenantry.read_tenant(object, observed_at, observed_at);
      when 'users' then
        s.users := s.users || tenantry.read_user(object, observed_at);
      when 'memberships' then
        if org_id is null or user_id is null then
          perform tenantry.raise_error('TY010', format('membership %s names no %s', id, case when org_id is null then 'organization' else 'user' end));
        end if;
        s.memberships := s.memberships || tenantry.read_membership(object, tenant.id, user_id, observed_at);
      when 'invitations' then
        s.invitations := s.invitations || tenantry.read_invitation(object, tenant.id, observed_at,
          case verb when 'created' then 'pending' when 'accepted' then verb when 'revoked' then verb end);
      when 'domains' then
        s.domains := s.domains || tenantry.read_domain(object, tenant.id, observed_at);
      when 'roles' then
        s.roles := s.roles || tenantry.read_role(object, observed_at);
      when 'permissions' then
        s.permissions := s.permissions || tenantry.read_permission(object, observed_at);
      when 'sessions' then
        -- No accepted token lives longer than a day (`tokens.py` refuses it), and none counts a day after it expired.
        s.ended_sessions := s.ended_sessions || row(
          id, observed_at, greatest(observed_at, now()) + interval '49 hours')::tenantry.ended_sessions;
      else
        perform tenantry.raise_error('TY010', format('unknown kind %L', kind));
    end case;
  end loop;
  return s;
end
$$;

-- The organization an object belongs to. Embedded, it is a full snapshot, which counts as observed when it was last
-- updated, so that every event that repeats it carries the very same one; `seen_at` is when it was shown. Without that
-- (`shown` is null) a stub.
create or replace function tenantry.read_parent(shown jsonb, org_id text, seen_at timestamptz)
returns tenantry.tenants language plpgsql stable as $$
declare
  tenant tenantry.tenants;
begin
  if tenantry.clerk_text(shown, 'id') is null then
    tenant.id := tenantry.tenant_id_of(org_id);
    tenant.clerk_org_id := org_id;
    return tenant;
  end if;
  tenant := tenantry.read_tenant(shown, null, seen_at);
  tenant.observed_at := to_timestamp(tenant.revision / 1000.0);
  return tenant;
end
$$;

-- Clerk's Permission object as a row of `permissions`.
create or replace function tenantry.read_permission(object jsonb, observed_at timestamptz)
returns tenantry.permissions language plpgsql stable as $$
declare
  p tenantry.permissions;
begin
  p.id := tenantry.clerk_text(object, 'id');
  p.key := tenantry.clerk_text(object, 'key');
  p.name := tenantry.clerk_text(object, 'name');
  p.description := tenantry.clerk_text(object, 'description');
  p.type := tenantry.clerk_text(object, 'type');
  p.created_at := tenantry.clerk_time(object -> 'created_at');
  p.revision := tenantry.clerk_revision(object);
  p.observed_at := observed_at;
  p.content_hash := hashtextextended(jsonb_build_array(p.key, p.name, p.description, p.type)::text, 0);
  p.last_seen := observed_at;
  return p;
end
$$;

-- Clerk's Role object as a row of `roles`; its permissions are objects there, keys here.
create or replace function tenantry.read_role(object jsonb, observed_at timestamptz)
returns tenantry.roles language plpgsql stable as $$
declare
  r tenantry.roles;
begin
  r.id := tenantry.clerk_text(object, 'id');
  r.key := tenantry.role_key(tenantry.clerk_text(object, 'key'));
  r.name := tenantry.clerk_text(object, 'name');
  r.description := tenantry.clerk_text(object, 'description');
  if jsonb_typeof(object -> 'permissions') = 'array' then
    r.permissions := array(
      select distinct tenantry.clerk_text(permission, 'key') from jsonb_array_elements(object -> 'permissions') as permission
      where tenantry.clerk_text(permission, 'key') is not null order by 1);
  end if;
  r.created_at := tenantry.clerk_time(object -> 'created_at');
  r.revision := tenantry.clerk_revision(object);
  r.observed_at := observed_at;
  r.content_hash := hashtextextended(jsonb_build_array(r.key, r.name, r.description, r.permissions)::text, 0);
  r.last_seen := observed_at;
  return r;
end
$$;

-- Clerk's Organization object as a row of `tenants`. Volatile counters are not content: they would make every
-- second snapshot a tie.
create or replace function tenantry.read_tenant(object jsonb, observed_at timestamptz, seen_at timestamptz)
returns tenantry.tenants language plpgsql stable as $$
declare
  t tenantry.tenants;
begin
  t.clerk_org_id := tenantry.clerk_text(object, 'id');
  t.id := tenantry.tenant_id_of(t.clerk_org_id);
  t.name := tenantry.clerk_text(object, 'name');
  t.slug := tenantry.clerk_text(object, 'slug');
  t.image_url := tenantry.clerk_text(object, 'image_url');
  t.public_metadata := tenantry.clerk_object(object, 'public_metadata');
  t.role_set_key := tenantry.clerk_text(object, 'role_set_key');
  t.created_at := tenantry.clerk_time(object -> 'created_at');
  t.revision := tenantry.clerk_revision(object);
  t.observed_at := observed_at;
  t.content_hash := hashtextextended(jsonb_build_array(t.name, t.slug, t.image_url, t.public_metadata, t.role_set_key)::text, 0);
  t.last_seen := seen_at;
  return t;
end
$$;

-- Clerk's User object as a row of `users`. Sign-in times and counters are not content.
create or replace function tenantry.read_user(object jsonb, observed_at timestamptz)
returns tenantry.users language plpgsql stable as $$
declare
  u tenantry.users;
begin
  u.id := tenantry.clerk_text(object, 'id');
  u.first_name := tenantry.clerk_text(object, 'first_name');
  u.last_name := tenantry.clerk_text(object, 'last_name');
  u.username := tenantry.clerk_text(object, 'username');
  if jsonb_typeof(object -> 'email_addresses') = 'array' then
    select tenantry.clerk_text(address, 'email_address') into u.primary_email
    from jsonb_array_elements(object -> 'email_addresses') as address
    where address ->> 'id' = object ->> 'primary_email_address_id'
    limit 1;
  end if;
  u.image_url := tenantry.clerk_text(object, 'image_url');
  u.external_id := tenantry.clerk_text(object, 'external_id');
  u.banned := coalesce(object -> 'banned' = 'true', false);
  u.public_metadata := tenantry.clerk_object(object, 'public_metadata');
  u.created_at := tenantry.clerk_time(object -> 'created_at');
  u.revision := tenantry.clerk_revision(object);
  u.observed_at := observed_at;
  u.content_hash := hashtextextended(jsonb_build_array(
    u.first_name, u.last_name, u.username, u.primary_email, u.image_url, u.external_id, u.banned, u.public_metadata)::text, 0);
  u.last_seen := observed_at;
  return u;
end
$$;

-- A page of Clerk's User objects as snapshots: what read_objects makes of them, in one statement. What could not be news
-- is left out: it need not be locked. See read_memberships.
create or replace function tenantry.read_users(objects jsonb, observed_at timestamptz)
returns tenantry.snapshots language plpgsql stable as $$
#variable_conflict use_column
declare
  seen_at  constant timestamptz := observed_at;
  readable boolean;
  s        tenantry.snapshots;
begin
  with shown as materialized (
    select
      tenantry.clerk_text(object, 'id') as id,
      tenantry.clerk_text(object, 'first_name') as first_name, tenantry.clerk_text(object, 'last_name') as last_name,
      tenantry.clerk_text(object, 'username') as username, (
        select tenantry.clerk_text(address, 'email_address')
        from jsonb_array_elements(case when jsonb_typeof(object -> 'email_addresses') = 'array' then object -> 'email_addresses' end) as address
        where address ->> 'id' = object ->> 'primary_email_address_id' limit 1
      ) as primary_email,
      tenantry.clerk_text(object, 'image_url') as image_url, tenantry.clerk_text(object, 'external_id') as external_id,
      coalesce(object -> 'banned' = 'true', false) as banned, tenantry.clerk_object(object, 'public_metadata') as public_metadata,
      tenantry.clerk_time(object -> 'created_at') as created_at, tenantry.clerk_time(object -> 'updated_at') as updated_at
    from jsonb_array_elements(objects) as object
  ), read as materialized (
    select shown.*,
      coalesce((extract(epoch from coalesce(updated_at, created_at)) * 1000)::bigint, 0) as revision,
      hashtextextended(jsonb_build_array(
        first_name, last_name, username, primary_email, image_url, external_id, banned, public_metadata)::text, 0) as content_hash
    from shown
  )
  select
    array_agg(row(
      id, first_name, last_name, username, primary_email, image_url, external_id, banned, public_metadata, created_at,
      revision, seen_at, content_hash, seen_at, null, null, null, null)::tenantry.users),
    bool_and(id is not null and length(id) <= 255)
  into s.users, readable
  from read where coalesce((
    select tenantry.is_news(
      k.revision, k.observed_at, k.content_hash, k.needs_refetch, k.last_seen, k.last_absent, k.deleted_at,
      read.revision, seen_at, read.content_hash, seen_at, null, null, false)
    from tenantry.users as k where k.id = read.id), true);
  if not readable then
    return tenantry.read_objects('users', array(select jsonb_array_elements(objects)), seen_at);  -- says what is wrong
  end if;
  return s;
end
$$;

-- Binds the database to another Clerk instance: after copying production into staging. The mirrored rows stay, and a
-- reconcile run ends those the new instance does not know. Who may call: tenantry_app.
create or replace function tenantry.rebind_instance_v1(instance_id text)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  before constant text := tenantry.bound_instance();
begin
  if coalesce(instance_id, '') !~ '^ins_[A-Za-z0-9_]+$' then
    perform tenantry.raise_error('TY010', 'an instance id looks like ins_...');
  end if;
  insert into tenantry.clerk_instance as i (instance_id) values (rebind_instance_v1.instance_id)
  on conflict (singleton) do update set instance_id = excluded.instance_id, bound_at = now();
  return jsonb_build_object('before', before, 'instance_id', instance_id);
end
$$;

-- The types of deliveries that the inbox has, read from its index however many there are of each.
create or replace function tenantry.received_types()
returns setof text language sql stable set enable_seqscan = off as $$
  with recursive received(type) as (
    select min(e.type) from tenantry.webhook_events as e
    union all
    select (select min(e.type) from tenantry.webhook_events as e where e.type > received.type) from received where received.type is not null
  )
  select type from received where type is not null
$$;

-- Records one event: see record_events_v1. For psql and scripts; a receiver hands over the delivery's own bytes there.
create or replace function tenantry.record_event_v1(message_id text, event jsonb)
returns jsonb language sql volatile security definer set search_path = pg_catalog, tenantry, pg_temp as $$
  select tenantry.record_events_v1(jsonb_build_array(jsonb_build_object('message_id', message_id, 'body', event::text))) -> 0
$$;

-- Records verified deliveries and merges what they tell, in one transaction.
--
-- batch:   [{"message_id": "msg_...", "body": "<the delivery's JSON text>", "sent_at": <svix-timestamp, seconds>,
--            "keep_private_metadata": false}, ...]; only the first two are required
-- bodies:  the bodies in the same order, instead of in the batch: as text they are read once, in JSON twice
-- returns: [{"message_id", "outcome", "type"?, "code"?, "error"?}, ...] in the same order. Outcomes:
--   applied    the mirror changed          stale      it knew this, or something newer
--   ignored    a type it does not use      duplicate  delivered before, with the same bytes
--   failed     cannot be read: kept whole, as a dead letter
--   refused    the same id with other bytes, or another instance's (TY018): answer 400
--
-- Who may call: tenantry_app. An error it raises, save TY010, is the database's own (a deadlock, a full disk): nothing
-- was stored, and the sender must try again. Locks: the inbox, shared; message ids in order; then as
-- merge_snapshots says.
-- The planner settings: a plan for arrays of unknown length is looked up again in every call, and one made while the
-- tables were empty would read them whole ever after. Keys and indexes are all that these statements need.
-- Where a table of one row is read whole all the same, that looks dear enough to compile: hence no JIT.
create or replace function tenantry.record_events_v1(batch jsonb, bodies text[] default '{}')
returns jsonb language plpgsql security definer
set search_path = pg_catalog, tenantry, pg_temp
set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_variable
declare
  ids         constant text[] := tenantry.check_batch(batch, bodies);
  bound       constant text := tenantry.bound_instance();
  earlier     tenantry.webhook_events[];
  delivery    jsonb;
  id          text;
  body        text;
  first       boolean;
  same_bytes  boolean;
  known       tenantry.webhook_events;
  opened      record;
  letters     tenantry.webhook_events[] := '{}';
  judged      text[] := '{}';
  answers     jsonb[] := '{}';
  conflicting text[] := '{}';
  snapshots   tenantry.snapshots;
  subjects    text[] := '{}';
  tellers     text[] := '{}';
  changed     text[] := '{}';
  answer      jsonb;
begin
  perform pg_advisory_xact_lock_shared(hashtext('tenantry.inbox'), 0);  -- alone: erase_user_v1
  perform pg_advisory_xact_lock(hashtext('tenantry.message'), bucket)
  from (select distinct hashtext(message_id) as bucket from unnest(ids) as message_id order by 1) as locks;
  earlier := array(select e from tenantry.webhook_events as e where e.message_id = any (ids));

  for n in 1 .. cardinality(ids) loop
    delivery := batch -> n - 1;
    id := ids[n];
    body := coalesce(bodies[n], delivery ->> 'body');
    first := id <> all (judged);
    known := null;
    if not first or cardinality(earlier) > 0 then
      select * into known from unnest(letters || earlier) as e where e.message_id = id limit 1;
      same_bytes := known.digest = sha256(convert_to(body, 'UTF8'));
    end if;

    if known.message_id is null or (first and same_bytes and known.outcome = 'refused') then
      opened := tenantry.open_letter(delivery, body, bound);
      snapshots := tenantry.join_snapshots(snapshots, opened.told);
      subjects := subjects || opened.subjects;
      tellers := tellers || array_fill(id, array[cardinality(opened.subjects)]);
      letters := letters || opened.letter;
      judged := judged || id;
      answers := answers || null::jsonb;
    elsif same_bytes and known.outcome = 'refused' then
      answers := answers || tenantry.answer_letter(known);
    elsif same_bytes then
      answers := answers || jsonb_build_object('message_id', id, 'outcome', 'duplicate', 'type', known.type);
    else
      conflicting := conflicting || id;
      answers := answers || jsonb_build_object('message_id', id, 'outcome', 'refused', 'type', known.type,
        'code', 'TY010', 'error', 'this message id was delivered before with other content');
    end if;
  end loop;

  if snapshots is distinct from null then
    perform tenantry.state_cause('webhook', jsonb_object(subjects, tellers));
    changed := tenantry.merge_snapshots(snapshots);
  end if;
  answer := tenantry.answer_batch(answers, letters, changed);
  if cardinality(conflicting) > 0 then
    update tenantry.webhook_events as e set conflicts = e.conflicts + cardinality(array_positions(conflicting, e.message_id))
    where e.message_id = any (conflicting);
  end if;
  return answer;
end
$$;

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

-- Refuses (TY003) a connection that still holds what an earlier transaction may have read of another tenant: a temporary
-- table made inside a tenant, which shadows the app's table of that name besides, or a cursor WITH HOLD. The catalogs by
-- their full names: a temporary table may be called pg_class.
create or replace function tenantry.refuse_leftovers()
returns void language plpgsql stable as $$
declare
  left_behind text;
begin
  if exists (select from pg_catalog.pg_cursors as c where c.is_holdable) then
    select c.name into left_behind from pg_catalog.pg_cursors as c where c.is_holdable limit 1;
  elsif pg_my_temp_schema() <> 0 then
    select c.oid::regclass::text into left_behind from pg_catalog.pg_class as c
    where c.relnamespace = pg_my_temp_schema() and c.relowner = 'tenantry_tenant'::regrole limit 1;
  end if;
  if left_behind is not null then
    perform tenantry.raise_error('TY003', left_behind);
  end if;
end
$$;

-- One transaction, one tenant: refuses (TY002) where a tenant or the bypass is set. The role tells too, since RESET ALL
-- forgets the tenant and keeps the role.
create or replace function tenantry.refuse_second_context()
returns void language plpgsql stable as $$
begin
  if coalesce(current_setting('tenantry.tenant_id', true), '') <> '' then
    perform tenantry.raise_error('TY002', format('it is in tenant %s', current_setting('tenantry.tenant_id')));
  elsif current_setting('role') = 'tenantry_tenant' then
    perform tenantry.raise_error('TY002', 'it was in a tenant');
  elsif current_setting('role') = 'tenantry_bypass' then
    perform tenantry.raise_error('TY002', 'it bypasses tenants: end_bypass_v1() first');
  end if;
end
$$;

-- Refuses (TY030) whoever is not the owner of a table, for definer functions: within them the caller is known by the
-- session alone. Of a table that is gone anybody may speak.
create or replace function tenantry.refuse_stranger(relation regclass)
returns void language plpgsql stable as $$
declare
  caller constant name := case current_setting('role') when 'none' then session_user else current_setting('role') end;
  owner  constant oid := (select c.relowner from pg_class as c where c.oid = relation);
begin
  if not pg_has_role(caller, owner, 'usage') then
    perform tenantry.raise_error('TY030', format('%s belongs to %I: only its owner may do this, and you are %I', relation, pg_get_userbyid(owner), caller));
  end if;
end
$$;

-- Remembers that a table follows, and that it has all organizations yet to copy. The routine is one of the table's owner,
-- and a definer: its name is taken from the catalog, never from the caller. Definer: the registry is the owner's.
-- Who may call: the table's owner. Locks: tenants (SHARE), so that no merge under way passes the table by.
create or replace function tenantry.register_follower(relation regclass, routine text, org_column name, columns jsonb)
returns void language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
declare
  named text;
begin
  perform tenantry.refuse_stranger(relation);
  select format('%I.%I', n.nspname, p.proname) into named
  from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
  join pg_class as c on c.oid = register_follower.relation and c.relowner = p.proowner
  where p.oid = to_regprocedure(register_follower.routine || '(jsonb)') and p.prosecdef;
  if named is null then
    perform tenantry.raise_error('TY010', 'the routine is no definer function of the table''s owner');
  end if;
  lock table tenantry.tenants in share mode;
  insert into tenantry.followers (relation, routine, org_column, columns)
  values (register_follower.relation, named, register_follower.org_column, register_follower.columns)
  on conflict (relation) do update set routine = excluded.routine, org_column = excluded.org_column, columns = excluded.columns;
  insert into tenantry.follower_gaps (relation, tenant_id)
  select register_follower.relation, t.id from tenantry.tenants as t where t.clerk_org_id is not null
  on conflict (relation, tenant_id) do update set attempts = 0, at = null;
end
$$;

-- Remembers what a table is, so that check_v1 can tell a table that lost its isolation from one that never had any; a
-- null mode forgets it. Definer: the registry is the owner's. Who may call: tenantry_app.
create or replace function tenantry.register_isolation(
  relation regclass, mode text, tenant_column name default null, tenant_key text default null, permissions jsonb default '{}')
returns void language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  delete from tenantry.table_isolation as i where i.relation = register_isolation.relation;
  delete from tenantry.table_isolation as i where not exists (select from pg_class as c where c.oid = i.relation);
  if mode is not null then
    insert into tenantry.table_isolation values (relation, mode, tenant_column, tenant_key, permissions);
  end if;
end
$$;

-- Forgets a consumer and its position; answers {"removed": true or false}. One that still has a handler in a running app
-- comes back, from where a new one starts. Who may call: tenantry_app.
create or replace function tenantry.remove_consumer_v1(consumer text)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  delete from tenantry.consumers as c where c.name = consumer;
  return jsonb_build_object('removed', found);
end
$$;

-- Drops Tenantry's own policies from a table.
create or replace function tenantry.remove_policies(relation regclass)
returns void language plpgsql as $$
declare
  policy name;
begin
  for policy in select polname from pg_policy where polrelid = relation and polname like 'tenantry\_%' loop
    execute format('drop policy %I on %s', policy, relation);
  end loop;
end
$$;

-- Merges deliveries of the inbox again, as if they came now: dead letters, after what they failed at was mended, and
-- others, which changes nothing while the mirror knows what they tell.
--
-- ids:     message ids
-- options: {"keep_private_metadata": false}
-- returns: [{"message_id", "type", "was": <outcome before>, "outcome", "code"?, "error"?,
--            "changes": [{"kind", "object_id"}, ...]}, ...] in the order of `ids`, once each. Outcomes:
--   applied, stale, ignored, failed  of a dead letter: as record_events_v1 says, and its row says now
--   unchanged, applied               of another: whether the mirror knew it all; its row stays as it is
--   refused                          another instance's (TY018): its row stays as it is
--   empty                            nothing is kept that could be merged: a session's, an ignored type's, an erased person's
--   unknown                          there is no such delivery
--
-- Its time is that of the first delivery; private metadata that was not kept is not there to be kept. Merging commutes,
-- so that the order of replays does not matter.
--
-- Who may call: tenantry_app. Errors it raises, and locks: as record_events_v1.
create or replace function tenantry.replay_events_v1(ids text[], options jsonb default '{}')
returns jsonb language plpgsql security definer
set search_path = pg_catalog, tenantry, pg_temp
set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_variable
declare
  bound       constant text := tenantry.bound_instance();
  last_change constant bigint := coalesce((select max(seq) from tenantry.changes), 0);
  known       tenantry.webhook_events;
  body        text;
  opened      record;
  letter      tenantry.webhook_events;
  letters     tenantry.webhook_events[] := '{}';
  tried       text[] := '{}';
  judged      jsonb := '{}';
  snapshots   tenantry.snapshots;
  subjects    text[] := '{}';
  tellers     text[] := '{}';
  changed     text[] := '{}';
  answer      jsonb;
begin
  perform pg_advisory_xact_lock_shared(hashtext('tenantry.inbox'), 0);  -- alone: erase_user_v1
  perform pg_advisory_xact_lock(hashtext('tenantry.message'), bucket)
  from (select distinct hashtext(message_id) as bucket from unnest(ids) as message_id order by 1) as locks;

  for known in select e.* from tenantry.webhook_events as e where e.message_id = any (ids) order by e.received_at, e.message_id loop
    body := coalesce(known.body, known.data::text);
    answer := jsonb_build_object('message_id', known.message_id, 'type', known.type, 'was', known.outcome, 'outcome', 'empty');
    if body is not null then
      opened := tenantry.open_letter(jsonb_build_object(
        'message_id', known.message_id, 'sent_at', extract(epoch from coalesce(known.occurred_at, known.received_at)),
        'keep_private_metadata', coalesce(options -> 'keep_private_metadata', 'false')), body, bound);
      letter := opened.letter;
      tried := tried || known.message_id;
      answer := answer || tenantry.answer_letter(letter);
      if letter.outcome = 'stale' then
        snapshots := tenantry.join_snapshots(snapshots, opened.told);
        subjects := subjects || opened.subjects;
        tellers := tellers || array_fill(known.message_id, array[cardinality(opened.subjects)]);
      end if;
      if known.outcome = 'failed' and letter.outcome <> 'refused' then
        letters := letters || letter;
      end if;
    end if;
    judged := judged || jsonb_build_object(known.message_id, answer);
  end loop;

  if snapshots is distinct from null then
    perform tenantry.state_cause('webhook', jsonb_object(subjects, tellers));
    changed := tenantry.merge_snapshots(snapshots);
  end if;
  for answer in select jsonb_array_elements(tenantry.answer_batch(array_fill(null::jsonb, array[cardinality(letters)]), letters, changed)) loop
    judged := jsonb_set(judged, array[answer ->> 'message_id'], judged -> (answer ->> 'message_id') || answer);
  end loop;
  update tenantry.webhook_events as e set replays = e.replays + 1, replayed_at = clock_timestamp() where e.message_id = any (tried);
  return tenantry.answer_replay(ids, judged, last_change);
end
$$;

-- Decides whether a verified token's user may act in its organization, and as what: the table of decisions stands in
-- docs/concepts.md. A token is compared with the mirror by its `iat`, in whole seconds: newer than what the mirror
-- knows, it is believed; within the second of a deletion the deletion wins. Expired, it counts for nothing, and only a
-- live membership admits.
--
-- Returns the context that enter_tenant sets; raises TY011 to TY019. Reads only. Definer, so that the decision sees
-- the whole mirror; only tenantry_app may call it, never the role a tenant's queries run as.
create or replace function tenantry.resolve_identity(identity jsonb)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  facts        constant tenantry.identity_facts := tenantry.read_identity(identity);
  claimed_org  constant text := nullif(facts.org_id, '');
  issued       constant timestamptz := to_timestamp(trunc(facts.issued_at::double precision));
  expires      constant timestamptz := to_timestamp(facts.expires_at::double precision);
  expired      constant boolean := expires <= now();
  -- The switch for the day the mirror is wrong: its denials are ignored, isolation stays.
  token_only   constant boolean := facts.membership_source is not distinct from 'token';
  token_role   constant text := tenantry.role_key(facts.role);
  bound        constant text := (select instance_id from tenantry.clerk_instance);
  tenant     tenantry.tenants;
  person     tenantry.users;
  membership tenantry.tenant_memberships;
  role       text := token_role;
begin
  if facts.instance_id <> bound then
    perform tenantry.raise_error('TY018', format('the token is of %s, this database mirrors %s', facts.instance_id, bound));
  elsif not token_only and exists (select from tenantry.ended_sessions where session_id = facts.session_id) then
    perform tenantry.raise_error('TY016', format('user %s', facts.user_id));
  elsif claimed_org is null and facts.personal_account is distinct from 'true' then
    perform tenantry.raise_error('TY017', format('user %s', facts.user_id));
  end if;

  -- One statement each: a join of them costs half as much again.
  select * into person from tenantry.users where id = facts.user_id;
  if claimed_org is null then
    select * into tenant from tenantry.tenants where clerk_user_id = facts.user_id;
  else
    select * into tenant from tenantry.tenants where clerk_org_id = claimed_org;
  end if;

  -- A day after a token expired, its session's end is forgotten (read_objects): it admits nobody any more.
  if expired then
    if token_only or tenant.id is null or person.id is null or expires < now() - interval '1 day' then
      perform tenantry.raise_error('TY019', format('user %s', facts.user_id));
    end if;
  end if;
  -- Ended by a deletion, for good; or by an absence, which a token issued since disproves.
  if person.ended_at is not null and not token_only then
    if person.deleted_at is not null or expired or issued < date_trunc('second', person.last_absent) then
      perform tenantry.raise_error('TY014', format('user %s', facts.user_id));
    end if;
  end if;
  -- A purged one whatever the switch says: a row written there would stay for ever.
  if tenant.purged_at is not null then
    perform tenantry.raise_error('TY013', format('organization %s', claimed_org));
  elsif tenant.ended_at is not null and not token_only then
    if tenant.deleted_at is not null or expired or issued < date_trunc('second', tenant.last_absent) then
      perform tenantry.raise_error('TY013', format('organization %s', claimed_org));
    end if;
  end if;
  if person.banned and not token_only then
    if expired or issued <= person.observed_at then
      perform tenantry.raise_error('TY015', format('user %s', facts.user_id));
    end if;
  end if;
  if tenant.id is null or person.id is null then
    if not pg_is_in_recovery() then
      perform tenantry.raise_error('TY011', format('organization %s, user %s', claimed_org, facts.user_id));
    end if;
    -- A replica cannot write the row, and knows which id it will have.
    tenant.id := coalesce(tenant.id, tenantry.derive_tenant_id(coalesce(bound, facts.instance_id), coalesce(claimed_org, facts.user_id)));
  end if;

  if claimed_org is not null and not token_only then
    select * into membership from tenantry.tenant_memberships
    where tenant_id = tenant.id and user_id = facts.user_id
    order by created_at desc nulls last, id desc limit 1;
    if membership.id is null then
      if expired then
        perform tenantry.raise_error('TY019', format('user %s, organization %s', facts.user_id, claimed_org));
      end if;
    elsif membership.ended_at is null then
      if expired or issued <= membership.observed_at then
        role := membership.role;
      end if;
    elsif expired or issued <= membership.deleted_at
       or (membership.deleted_at is null and issued < date_trunc('second', membership.last_absent)) then
      perform tenantry.raise_error('TY012', format('user %s, organization %s, since %s', facts.user_id, claimed_org, membership.ended_at));
    end if;
  end if;
  return tenantry.describe_context(facts, tenant, facts.user_id, role,
    case when membership.role = role then membership.permissions end,
    case when not expired and role is not distinct from token_role then issued end);
end
$$;

-- The context for work without a token: see set_tenant_by_id_v1. Reads only.
create or replace function tenantry.resolve_tenant(tenant_id uuid, user_id text)
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  tenant     tenantry.tenants;
  person     tenantry.users;
  membership tenantry.tenant_memberships;
begin
  select * into tenant from tenantry.tenants as t where t.id = resolve_tenant.tenant_id;
  if tenant.id is null then
    perform tenantry.raise_error('TY020', format('tenant %s', tenant_id));
  elsif tenant.ended_at is not null then
    perform tenantry.raise_error('TY013', format('tenant %s', tenant_id));
  elsif user_id is null then
    return tenantry.describe_app(tenant);
  end if;

  select * into person from tenantry.users as u where u.id = resolve_tenant.user_id;
  if person.ended_at is not null then
    perform tenantry.raise_error('TY014', format('user %s', user_id));
  elsif person.banned then
    perform tenantry.raise_error('TY015', format('user %s', user_id));
  end if;
  select * into membership from tenantry.tenant_memberships as m
  where m.tenant_id = tenant.id and m.user_id = resolve_tenant.user_id
  order by m.created_at desc nulls last, m.id desc limit 1;
  if tenant.clerk_user_id is distinct from user_id and (membership.id is null or membership.ended_at is not null) then
    perform tenantry.raise_error('TY012', format('user %s, tenant %s', user_id, tenant_id));
  end if;
  return tenantry.describe_context(null, tenant, user_id, membership.role, membership.permissions, null);
end
$$;

-- Has a consumer go on that has failed, parked or not: at the change it failed at, or, to skip that, after it. Waits for
-- an attempt that is under way.
--
-- options: {"skip": true}: pass over the change
-- returns: {"pos": n, "skipped": <the position passed over, or null>}
-- Raises TY010 where there is no such consumer, or it has not failed. Who may call: tenantry_app.
create or replace function tenantry.resume_consumer_v1(consumer text, options jsonb default '{}')
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  known   tenantry.consumers;
  skipped bigint;
begin
  select * into known from tenantry.consumers as c where c.name = consumer for no key update;
  if known.name is null then
    perform tenantry.raise_error('TY010', format('there is no consumer %L', consumer));
  elsif known.failing is null then
    perform tenantry.raise_error('TY010', format('the consumer %L has not failed', consumer));
  end if;
  skipped := case when options -> 'skip' = 'true' then known.failing end;
  update tenantry.consumers as c
  set pos = coalesce(skipped, c.pos), moved_at = clock_timestamp(), failing = null, attempts = 0, error = null, retry_at = null, parked_at = null
  where c.name = consumer;
  perform pg_notify('tenantry_changes', '');
  return jsonb_build_object('pos', coalesce(skipped, known.pos), 'skipped', skipped);
end
$$;

-- A role's key with exactly one `org:`: legacy instances and tokens leave it out.
create or replace function tenantry.role_key(role text)
returns text language sql immutable parallel safe as $$
  select 'org:' || regexp_replace(nullif(role, ''), '^(org:)+', '')
$$;

-- Keeps where a run is: {"id", "attempt", "state"?, "counts"?, "drift"?, "finished": bool}; answers {}. TY021 where another
-- process has taken the run over. Who may call: tenantry_app.
create or replace function tenantry.save_reconcile_v1(run jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
begin
  perform tenantry.hold_run((run ->> 'id')::bigint, (run ->> 'attempt')::integer);
  update tenantry.reconcile_runs as r set
    touched_at = now(),
    finished_at = case when run -> 'finished' = 'true' then now() end,
    state = coalesce(run -> 'state', r.state),
    counts = coalesce(run -> 'counts', r.counts),
    drift = coalesce(run -> 'drift', r.drift)
  where r.id = (run ->> 'id')::bigint;
  if run -> 'finished' = 'true' then
    delete from tenantry.reconcile_pages where run_id = (run ->> 'id')::bigint;
  end if;
  return '{}';
end
$$;

-- Gives committed changes their place in the order of reading; answers {"sequenced": n}, and "busy": true where somebody
-- else is at it, who may have begun too early to see them all. Readers call it first, in a transaction of its own: the
-- places it gives are read by others after the commit, which also notifies those who LISTEN on `tenantry_changes`. Two
-- never run at a time, so places are committed in order and a reader that goes by them skips none. A transaction that
-- wrote changes and is forgotten holds up nobody: its changes get places when it commits. A caller that forgets *this*
-- transaction is disconnected by the server after 5 seconds, which is the longest a reader can be stalled.
-- The notice is sent here and not where changes are written: commits that notify wait for each other.
create or replace function tenantry.sequence_changes_v1()
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  sequenced bigint;
begin
  perform set_config('idle_in_transaction_session_timeout', '5s', true);
  if not pg_try_advisory_xact_lock(hashtext('tenantry.sequence'), 0) then
    return jsonb_build_object('sequenced', 0, 'busy', true);
  end if;
  sequenced := tenantry.place_changes(10000);
  if sequenced > 0 then
    perform pg_notify('tenantry_changes', '');
  end if;
  return jsonb_build_object('sequenced', sequenced);
end
$$;

-- The sequences that a table's columns own or draw their defaults from.
create or replace function tenantry.sequences_of(relation regclass)
returns regclass[] language sql stable as $$
  select coalesce(array_agg(distinct s.oid::regclass), '{}')
  from pg_class as s
  where s.relkind = 'S' and (
    exists (select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = s.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.deptype in ('a', 'i'))
    or exists (select from pg_depend as d join pg_attrdef as f on f.oid = d.objid
               where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = s.oid and f.adrelid = relation))
$$;

-- Replaces the app's map of Clerk role to app permissions.
--
-- map:     {"org:admin": ["documents:*", ...], ...}
-- returns: {"added": n, "removed": n, "unknown_roles": ["org:..."]}: mirrored roles the map does not name; they get nothing
--
-- Raises TY010 for what is no such map, or no pattern. Who may call: tenantry_app. Locks: the table, against another replacement.
create or replace function tenantry.set_role_permissions_v1(map jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  added   bigint;
  removed bigint;
  misread text;
begin
  if jsonb_typeof(map) is distinct from 'object' then
    perform tenantry.raise_error('TY010', 'the map is not {"<role>": ["<permission>", ...]}');
  elsif exists (select from jsonb_each(map) as entry(role, permissions)
                where tenantry.role_key(role) is null or jsonb_typeof(permissions) <> 'array'
                   or jsonb_path_exists(permissions, '$[*] ? (@.type() != "string")')) then
    perform tenantry.raise_error('TY010', 'a role has no name, or its permissions are no array of strings');
  end if;
  perform tenantry.check_ids(variadic array(select jsonb_object_keys(map)));
  -- The same patterns as `roles.py`.
  select pattern into misread from jsonb_each(map) as entry(role, permissions), lateral jsonb_array_elements_text(permissions) as pattern
  where length(pattern) > 200 or pattern !~ '^([a-z0-9_.-]+|\*)(:([a-z0-9_.-]+|\*))*$' limit 1;
  if found then
    perform tenantry.raise_error('TY010', format('%s is no permission: write segments of a-z, 0-9, _ . - or a * for one, joined by colons', to_jsonb(left(misread, 80))));
  end if;
  lock table tenantry.role_permissions in share row exclusive mode;
  with wanted as (
    select distinct tenantry.role_key(role) as role, permission
    from jsonb_each(map) as entry(role, permissions), lateral jsonb_array_elements_text(permissions) as permission
  ), gone as (
    delete from tenantry.role_permissions as known
    where not exists (select from wanted where (wanted.role, wanted.permission) = (known.role, known.permission))
    returning 1
  ), come as (
    insert into tenantry.role_permissions select * from wanted on conflict do nothing returning 1
  )
  select (select count(*) from come), (select count(*) from gone) into added, removed;
  return jsonb_build_object('added', added, 'removed', removed, 'unknown_roles', (
    select coalesce(jsonb_agg(distinct r.key), '[]') from tenantry.roles as r
    where r.ended_at is null and not exists (select from jsonb_object_keys(map) as k where tenantry.role_key(k) = r.key)));
end
$$;

-- Sets the tenant of this transaction for work without a token: jobs, handlers, shells.
--
-- reason:  why, for the server's log
-- options: {"user_id": "user_..."}: act for this user, whose membership is checked now. Without one the app itself
--          acts: with every permission, and no role
--          {"instance_id": "ins_..."}: refuse where the database mirrors another Clerk instance
-- returns: as set_tenant_v1; raises TY002, TY003, TY010, TY012 to TY015, TY018, TY020
--
-- Who may call: tenantry_app.
create or replace function tenantry.set_tenant_by_id_v1(tenant_id uuid, reason text, options jsonb default '{}')
returns jsonb language plpgsql as $$
begin
  perform tenantry.refuse_second_context();
  if coalesce(trim(reason), '') = '' then
    perform tenantry.raise_error('TY010', 'state a reason');
  -- Whatever is not a user must not come to mean the app itself, which may do everything.
  elsif jsonb_typeof(options) <> 'object' or options - '{user_id,instance_id}'::text[] <> '{}' or tenantry.clerk_text(options, 'user_id') is null and options -> 'user_id' <> 'null' then
    perform tenantry.raise_error('TY010', 'the options are {"user_id": "user_..."}, or {} where the app itself acts');
  elsif tenantry.clerk_text(options, 'instance_id') <> (select i.instance_id from tenantry.clerk_instance as i) then
    perform tenantry.raise_error('TY018', format('the work is of %s', options ->> 'instance_id'));
  end if;
  raise log 'tenantry: tenant % set by id: %', tenant_id, reason;
  return tenantry.enter_tenant(tenantry.resolve_tenant(tenant_id, tenantry.clerk_text(options, 'user_id')));
end
$$;

-- Sets the tenant of this transaction from a verified token's facts, and answers the context. Never writes: it works
-- in READ ONLY transactions and on replicas.
--
-- identity: {"user_id", "org_id", "org_slug", "role": "org:member", "permissions": [...], "features": [...],
--            "session_id", "issued_at": <iat, seconds>, "expires_at": <exp, seconds>, "instance_id",
--            "personal_account": true, "membership_source": "token"}
--           required: user_id, issued_at, expires_at, and org_id or personal_account
-- returns:  {"tenant_id", "org_id", "slug", "name", "user_id", "role", "role_source", "permissions",
--            "system_permissions", "app_permissions"}
-- raises:   TY002, TY003, TY010 to TY019
--
-- Who may call: tenantry_app (inside a tenant it answers TY002). Invoker, since SET ROLE is refused inside a definer.
create or replace function tenantry.set_tenant_v1(identity jsonb)
returns jsonb language plpgsql as $$
begin
  perform tenantry.refuse_second_context();
  return tenantry.enter_tenant(tenantry.resolve_identity(identity));
end
$$;

-- States that a table belongs to no tenant.
--
-- mode: read    every tenant may read it (countries, plans)
--       write   every tenant may read and write it, its sequences included
--       none    no tenant sees it: bookkeeping of the app itself
-- Who may call: the table's owner, without a tenant.
create or replace function tenantry.share_table_v1(relation regclass, mode text)
returns jsonb language plpgsql as $$
declare
  kind  "char";
  owner oid;
  part  regclass;
begin
  perform tenantry.refuse_second_context();
  select c.relkind, c.relowner into kind, owner from pg_class as c where c.oid = relation;
  if mode is null or mode not in ('read', 'write', 'none') then
    perform tenantry.raise_error('TY010', format('mode %L is none of read, write, none', mode));
  elsif kind is null or kind not in ('r', 'p') then
    perform tenantry.raise_error('TY030', format('%s is no table', coalesce(relation::text, 'null')));
  elsif exists (select from tenantry.table_isolation as i where i.relation = share_table_v1.relation and i.mode = 'isolated') then
    perform tenantry.raise_error('TY030', format('%s is isolated: drop_isolation_v1 first', relation));
  elsif not pg_has_role(owner, 'usage') then
    perform tenantry.raise_error('TY030', format('%s belongs to %I: only its owner may share it, and you are %I', relation, pg_get_userbyid(owner), current_user));
  end if;
  perform tenantry.register_isolation(relation, mode);
  perform tenantry.grant_table(relation, mode);
  foreach part in array tenantry.partitions_of(relation) loop
    perform tenantry.grant_table(part, 'none');  -- reached through the parent alone
  end loop;
  return jsonb_build_object('table', relation, 'mode', mode);
end
$$;

-- The time of the last delivery, or where there was none of the installation: what changed at Clerk before it needed not
-- be told since. Clerk's clock may be ahead of this one: then its own word counts, within an hour.
create or replace function tenantry.silent_since()
returns timestamptz language plpgsql stable as $$
begin
  return coalesce(
    (select greatest(e.received_at, least(e.occurred_at, e.received_at + interval '1 hour')) from tenantry.webhook_events as e
     where e.outcome <> 'refused' order by e.received_at desc limit 1),
    (select min(applied_at) from tenantry.migrations));
end
$$;

-- States, for this transaction, what the changes it makes are due to: webhook, reconcile or token; and, for webhooks,
-- which delivery told about which object: {"<Clerk id>": "<message id>"}.
create or replace function tenantry.state_cause(cause text, deliveries jsonb default '{}')
returns void language plpgsql as $$
begin
  perform set_config('tenantry.cause', cause, true), set_config('tenantry.deliveries', deliveries::text, true);
end
$$;

-- What status_v1 says of reconcile runs. `last`: the newest run of everything, quick ones aside; `under_way`: somebody is
-- at it now. `backfilled_at`: when the last that was not dry ended. `repaired`: {"users": {"created": n, "updated": n,
-- "ended": n}, ...}, how many runs have found such changes since deliveries come at all, beginning with the second: the
-- first finds what is older than the deliveries.
create or replace function tenantry.status_of_runs(out last jsonb, out backfilled_at timestamptz, out repaired jsonb)
language plpgsql stable as $$
declare
  first_heard constant timestamptz := (select min(e.received_at) from tenantry.webhook_events as e);
begin
  select jsonb_build_object('id', r.id, 'dry', r.dry, 'started_at', r.started_at, 'finished_at', r.finished_at,
    'counts', r.counts, 'drift', r.drift, 'under_way', r.finished_at is null and exists (
      select from pg_locks as l
      where l.locktype = 'advisory' and l.granted and l.objid = 0 and l.classid::bigint = hashtext('tenantry.reconcile')::bigint & 4294967295
        and l.database = (select d.oid from pg_database as d where d.datname = current_database())))
  into last
  from tenantry.reconcile_runs as r where r.org_id is null and r.state -> 'quick' is distinct from 'true' order by r.id desc limit 1;

  backfilled_at := (
    select r.finished_at from tenantry.reconcile_runs as r
    where r.org_id is null and not r.dry and r.state -> 'quick' is distinct from 'true' and r.finished_at is not null
    order by r.id desc limit 1);

  select coalesce(jsonb_object_agg(kind, runs), '{}') into repaired from (
    select c.key as kind, jsonb_build_object(
      'created', count(*) filter (where (c.value ->> 'created')::bigint > 0), 'updated', count(*) filter (where (c.value ->> 'updated')::bigint > 0),
      'ended', count(*) filter (where (c.value ->> 'ended')::bigint > 0)) as runs
    from (select r.counts, row_number() over (order by r.id) as number
          from (select * from tenantry.reconcile_runs order by id desc limit 100) as r
          where r.org_id is null and not r.dry and r.finished_at is not null and r.started_at > first_heard) as run
    cross join lateral jsonb_each(run.counts) as c
    where run.number > 1
    group by c.key) as kinds;
end
$$;

-- What there is to know of mirror, inbox and feed, in one call of a few milliseconds however much they hold: what may be
-- long is counted up to 1000, dead letters up to 10000.
--
-- returns: {"at", "schema": <highest migration>, "instance_id",
--   "heard_at": <last delivery>, "silent_since", "silence": {"since", "changed_at", "raised_at"} while the alarm holds,
--   "seen", "unseen": the types that the mirror uses, by whether the inbox has any,
--   "dead_letters": {"count", "newest_at", "by_type": {...}}, "refused": {"count": <of the last day>, "newest_at"},
--   "ties", "run", "backfilled_at", "repaired": see status_of_runs,
--   "unplaced": {"count", "since"},
--   "followers": [{"table", "behind"}, ...]: see follow_tenants_v1,
--   "consumers": [{"name", "state": as list_consumers_v1 has it, "behind", "since": <when the next change was written>}, ...]}
-- Who may call: tenantry_app. The planner settings: for a value that half of a table has, it would begin at the table's
-- beginning, and read all of it for one that no row has.
create or replace function tenantry.status_v1()
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp
set jit = off set enable_seqscan = off as $$
#variable_conflict use_variable
declare
  since  constant timestamptz := tenantry.silent_since();
  answer jsonb;
  runs   record;
begin
  answer := jsonb_build_object(
    'at', clock_timestamp(),
    'schema', (select max(m.number) from tenantry.migrations as m),
    'instance_id', tenantry.bound_instance(),
    'heard_at', tenantry.last_heard(),
    'silent_since', since,
    'silence', (select jsonb_build_object('since', s.since, 'changed_at', s.changed_at, 'raised_at', s.raised_at)
                from tenantry.silence as s where s.since = since and s.raised_at is not null),
    'ties', (select count(*) from (select from tenantry.ties() limit 1000) as t),
    'unplaced', (select jsonb_build_object('count', count(*), 'since', min(c.at))
                 from (select at from tenantry.changes where pos is null order by seq limit 1000) as c));

  answer := answer || (
    select jsonb_build_object('seen', coalesce(jsonb_agg(t.type) filter (where t.seen), '[]'),
                              'unseen', coalesce(jsonb_agg(t.type) filter (where not t.seen), '[]'))
    from (select u.type, (select true from tenantry.webhook_events as e where e.type = u.type limit 1) is not null as seen
          from tenantry.used_event_types() as u(type)) as t);

  answer := answer || jsonb_build_object('dead_letters', (
    select jsonb_build_object('count', coalesce(sum(d.number), 0), 'newest_at', max(d.newest),
                              'by_type', coalesce(jsonb_object_agg(d.type, d.number order by d.number desc), '{}'))
    from (select coalesce(l.type, 'unknown') as type, count(*) as number, max(l.received_at) as newest
          from (select e.type, e.received_at from tenantry.webhook_events as e where e.outcome = 'failed'
                order by e.received_at desc limit 10000) as l
          group by 1) as d));

  answer := answer || jsonb_build_object('refused', (
    select jsonb_build_object('count', count(*), 'newest_at', max(l.received_at))
    from (select e.received_at from tenantry.webhook_events as e
          where e.outcome = 'refused' and e.received_at > now() - interval '1 day' order by e.received_at desc limit 1000) as l));

  answer := answer || jsonb_build_object('consumers', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', c.name, 'behind', waiting.behind, 'since', waiting.since,
      'state', case when c.parked_at is not null then 'parked' when c.failing is not null then 'failing' else 'reading' end) order by c.name), '[]')
    from tenantry.consumers as c
    cross join lateral (
      select count(*) filter (where tenantry.is_of_kinds(w.kind, c.kinds)) as behind, min(w.at) as since
      from (select kind, at from tenantry.changes where pos > c.pos order by pos limit 1000) as w) as waiting));

  answer := answer || jsonb_build_object('followers', (
    select coalesce(jsonb_agg(jsonb_build_object('table', f.relation, 'behind', (
      select count(*) from (select from tenantry.follower_gaps as g where g.relation = f.relation limit 1000) as g)) order by f.relation::text), '[]')
    from tenantry.followers as f join pg_class as c on c.oid = f.relation));

  runs := tenantry.status_of_runs();
  return answer || jsonb_build_object('run', runs.last, 'backfilled_at', runs.backfilled_at, 'repaired', runs.repaired);
end
$$;

-- Notifies those who LISTEN on `tenantry_endings` of these ids of Clerk's, or of `*`. Anybody may listen, inside a tenant
-- too, so that an id goes out as its sha256: who knows it already recognises it, nobody else learns it.
create or replace function tenantry.tell_endings(subjects text[])
returns void language plpgsql as $$
begin
  perform pg_notify('tenantry_endings', case subject when '*' then subject else encode(sha256(convert_to(subject, 'UTF8')), 'hex') end)
  from unnest(subjects) as subject;
end
$$;

-- Whether a string in this JSON, however deep, has what the pattern looks for (see pattern_of). Keys do not count.
create or replace function tenantry.tells_of(told jsonb, pattern text)
returns boolean language sql immutable as $$
  select exists (
    select from jsonb_path_query(told, 'strict $.**') as part
    where jsonb_typeof(part) = 'string' and part #>> '{}' ~* pattern)
$$;

-- Our id of a Clerk organization: its row's, or the one its row will get. plpgsql, not SQL: a SQL function that reads
-- a table is planned again in every transaction.
create or replace function tenantry.tenant_id_of(org_id text)
returns uuid language plpgsql stable as $$
begin
  return coalesce(
    (select t.id from tenantry.tenants t where t.clerk_org_id = org_id),
    tenantry.derive_tenant_id(tenantry.bound_instance(), org_id));
end
$$;

-- Live objects of which the mirror knows two contents of one version: Clerk is to be asked which is true.
create or replace function tenantry.ties()
returns table (kind text, id text, org_id text, user_id text) language sql stable as $$
  select 'users', u.id, null, u.id from tenantry.users as u where u.ended_at is null and u.needs_refetch
  union all
  select 'organizations', t.clerk_org_id, t.clerk_org_id, null from tenantry.tenants as t
  where t.ended_at is null and t.needs_refetch and t.clerk_org_id is not null
  union all
  select 'memberships', m.id, t.clerk_org_id, m.user_id from tenantry.tenant_memberships as m
  join tenantry.tenants as t on t.id = m.tenant_id and t.ended_at is null
  join tenantry.users as u on u.id = m.user_id and u.ended_at is null
  where m.ended_at is null and m.needs_refetch
  union all
  select 'invitations', i.id, t.clerk_org_id, null from tenantry.invitations as i
  join tenantry.tenants as t on t.id = i.tenant_id and t.ended_at is null where i.ended_at is null and i.needs_refetch
  union all
  select 'domains', d.id, t.clerk_org_id, null from tenantry.domains as d
  join tenantry.tenants as t on t.id = d.tenant_id and t.ended_at is null where d.ended_at is null and d.needs_refetch
  union all
  select 'roles', r.id, null, null from tenantry.roles as r where r.ended_at is null and r.needs_refetch
  union all
  select 'permissions', p.id, null, null from tenantry.permissions as p where p.ended_at is null and p.needs_refetch
$$;

-- Ends what follow_tenants_v1 began: the table stays as it is, and nobody writes it any more. Also for a table that was
-- dropped since, by the number that check_v1 shows.
-- Who may call: the table's owner, without a tenant.
create or replace function tenantry.unfollow_tenants_v1(relation regclass)
returns jsonb language plpgsql as $$
declare
  known  tenantry.followers;
  schema regnamespace;
begin
  perform tenantry.refuse_second_context();
  select f.* into known from tenantry.followers as f where f.relation = unfollow_tenants_v1.relation;
  select c.relnamespace into schema from pg_class as c where c.oid = relation;
  if known.relation is null then
    perform tenantry.raise_error('TY030', format('%s follows nothing', coalesce(relation::text, 'null')));
  end if;
  perform tenantry.forget_follower(relation);
  execute format('drop function if exists %s(jsonb)', known.routine);
  if exists (select from pg_namespace as n cross join lateral aclexplode(n.nspacl) as g
             where n.oid = schema and g.grantee = 'tenantry_owner'::regrole and pg_has_role(g.grantor, 'usage'))
     and not exists (select from tenantry.followers as f join pg_class as c on c.oid = f.relation where c.relnamespace = schema) then
    execute format('revoke usage on schema %s from tenantry_owner', schema);
  end if;
  return jsonb_build_object('table', relation);
end
$$;

-- The types of events that the mirror uses, as kind_of_event knows them: those to be ticked in Clerk's dashboard.
create or replace function tenantry.used_event_types()
returns setof text language sql immutable parallel safe as $$
  select subject || '.' || verb
  from unnest(array['user', 'organization', 'organizationMembership', 'organizationInvitation', 'organizationDomain', 'role', 'permission', 'session'])
         with ordinality as s(subject, subject_order),
       unnest(array['created', 'updated', 'deleted', 'accepted', 'revoked', 'ended', 'removed']) with ordinality as v(verb, verb_order)
  where tenantry.kind_of_event(subject || '.' || verb) is not null
  order by subject_order, verb_order
$$;

-- The id of the user a membership belongs to; Clerk has it in `public_user_data` alone.
create or replace function tenantry.user_of(object jsonb)
returns text language plpgsql immutable parallel safe as $$
declare
  id text := tenantry.clerk_text(object -> 'public_user_data', 'user_id');
begin
  if id is not null then
    return id;
  end if;
  return tenantry.clerk_text(object, 'user_id');
end
$$;

-- The id of the user an event is about, or whom its membership or invitation names; null for other types, and for what
-- is no id.
create or replace function tenantry.user_of_event(event jsonb)
returns text language plpgsql immutable parallel safe as $$
declare
  kind constant text := tenantry.kind_of_event(event ->> 'type');
  id   constant text := case
    when kind = 'users' then tenantry.clerk_text(event -> 'data', 'id')
    when kind in ('memberships', 'invitations') then tenantry.user_of(event -> 'data')
  end;
begin
  return case when length(id) <= 255 then id end;
end
$$;

-- The views (kind 'v') or materialized views ('m') that read a table, directly or through other views.
create or replace function tenantry.views_of(relation regclass, kind "char" default 'v')
returns regclass[] language sql stable as $$
  with recursive reading(oid) as (
    select relation::oid
    union
    select r.ev_class from reading
    join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = reading.oid and d.classid = 'pg_rewrite'::regclass
    join pg_rewrite as r on r.oid = d.objid and r.ev_class <> reading.oid
  )
  select coalesce(array_agg(distinct c.oid::regclass), '{}') from reading join pg_class as c on c.oid = reading.oid where c.relkind = kind
$$;

-- Whether Clerk is to be asked for changes that no delivery told of: {"after": <seconds without a delivery>, "every":
-- <seconds between two questions>} -> {"since": <the last delivery, or the installation>, "instance_id"}, or {} where one
-- came lately, where somebody has asked lately, and where the alarm was raised. Of many that call at once one gets the
-- question.
-- Raises TY010. Who may call: tenantry_app.
create or replace function tenantry.watch_silence_v1(options jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  heard constant timestamptz := tenantry.silent_since();
begin
  if jsonb_typeof(options -> 'after') is distinct from 'number' or jsonb_typeof(options -> 'every') is distinct from 'number' then
    perform tenantry.raise_error('TY010', 'after and every are numbers of seconds');
  end if;
  if heard > now() - (options ->> 'after')::double precision * interval '1 second' then
    return '{}';
  end if;
  insert into tenantry.silence as s (since, asked_at) values (heard, clock_timestamp())
  on conflict (singleton) do update set
    since = excluded.since, asked_at = excluded.asked_at, changed_at = null, raised_at = null
  where s.since <> excluded.since
     or (s.raised_at is null and s.asked_at < now() - (options ->> 'every')::double precision * interval '1 second');
  return case when found then jsonb_build_object('since', heard, 'instance_id', tenantry.bound_instance()) else '{}' end;
end
$$;

-- An event without the private metadata of its object and of the organization embedded in it, and without the memberships
-- that a user event may list, which carry both and tell the mirror nothing; whatever it is, no error.
-- Each removal writes the event anew, so what is empty stays.
create or replace function tenantry.without_private_metadata(event jsonb)
returns jsonb language plpgsql immutable parallel safe as $$
declare
  object constant jsonb := event -> 'data';
begin
  if jsonb_typeof(object) is distinct from 'object' then
    return event;
  end if;
  if object -> 'private_metadata' <> '{}' then
    event := event #- '{data,private_metadata}';
  end if;
  if object -> 'unsafe_metadata' <> '{}' then
    event := event #- '{data,unsafe_metadata}';
  end if;
  if object ? 'organization_memberships' then
    event := event #- '{data,organization_memberships}';
  end if;
  if jsonb_typeof(object -> 'organization') = 'object' and object #> '{organization,private_metadata}' <> '{}' then
    event := event #- '{data,organization,private_metadata}';
  end if;
  return event;
end
$$;

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

-- Triggers, policies and grants of the mirror, made anew at every install: default-deny first, then what each role may.
set local role tenantry_owner;

-- Every mirrored table merges by one trigger and notes its changes by another.
do $$
declare
  mirrored record;
begin
  for mirrored in
    select * from (values
      ('tenants', 'tenant'), ('users', 'user'), ('tenant_memberships', null), ('invitations', 'invitation'),
      ('domains', 'domain'), ('roles', 'role'), ('permissions', 'permission')
    ) as t(name, subject)
  loop
    execute format('create or replace trigger a_keep_newest_snapshot before update on tenantry.%I
      for each row execute function tenantry.keep_newest_snapshot()', mirrored.name);
    if mirrored.subject is not null then
      execute format('create or replace trigger note_inserted after insert on tenantry.%I
        referencing new table as new_rows for each statement execute function tenantry.note_inserted(%L)', mirrored.name, mirrored.subject);
      execute format('create or replace trigger note_updated after update on tenantry.%I
        referencing old table as old_rows new table as new_rows for each statement execute function tenantry.note_updated(%L)', mirrored.name, mirrored.subject);
    end if;
    if mirrored.subject in ('tenant', 'user') then
      execute format('create or replace trigger note_parents_updated after update on tenantry.%I
        referencing old table as old_rows new table as new_rows for each statement execute function tenantry.note_parents_updated(%L)', mirrored.name, mirrored.subject);
    end if;
  end loop;
end
$$;
create or replace trigger b_erase_deleted_user before insert or update on tenantry.users
  for each row execute function tenantry.erase_deleted_user();
create or replace trigger b_empty_purged_tenant before update on tenantry.tenants
  for each row when (old.purged_at is not null) execute function tenantry.empty_purged_tenant();
create or replace trigger note_inserted after insert on tenantry.tenant_memberships
  referencing new table as new_rows for each statement execute function tenantry.note_members();
create or replace trigger note_updated after update on tenantry.tenant_memberships
  referencing old table as old_rows new table as new_rows for each statement execute function tenantry.note_members();

-- The app's own tables of organizations follow.
create or replace trigger follow_inserted after insert on tenantry.tenants
  referencing new table as new_rows for each statement execute function tenantry.follow_tenants();
create or replace trigger follow_updated after update on tenantry.tenants
  referencing old table as old_rows new table as new_rows for each statement execute function tenantry.follow_tenants();

-- What roles permit is kept ready to be read; a statement on no row makes it so for what is there already.
do $$
declare
  source text;
begin
  foreach source in array array['roles', 'permissions', 'role_permissions'] loop
    execute format('create or replace trigger lock_role_grants before insert or update or delete or truncate on tenantry.%I
      for each statement execute function tenantry.lock_role_grants()', source);
    execute format('create or replace trigger refresh_role_grants after insert or update or delete or truncate on tenantry.%I
      for each statement execute function tenantry.refresh_role_grants()', source);
  end loop;
end
$$;
delete from tenantry.role_permissions where false;

-- Whose access may have ended is told to who listens, when the transaction commits.
create or replace trigger notify_endings after insert on tenantry.changes
  referencing new table as new_rows for each statement execute function tenantry.notify_endings();
create or replace trigger notify_ended_sessions after insert on tenantry.ended_sessions
  referencing new table as new_rows for each statement execute function tenantry.notify_ended_sessions();
-- By row: a statement on no row, as the one above, changes nothing.
create or replace trigger notify_everybody after insert or update or delete on tenantry.role_permissions
  for each row execute function tenantry.notify_everybody();
create or replace trigger notify_everybody after update on tenantry.clerk_instance
  for each row execute function tenantry.notify_everybody();

-- Inside a tenant one sees that tenant, its members and their users: neither the inbox nor anyone else. The owner's
-- definer functions are not confined (no FORCE); the bypass sees all.
do $$
declare
  confined record;
begin
  for confined in
    select * from (values
      ('tenants', 'id = (select tenantry.current_tenant_id())'),
      ('tenant_memberships', 'tenant_id = (select tenantry.current_tenant_id())'),
      ('invitations', 'tenant_id = (select tenantry.current_tenant_id())'),
      ('domains', 'tenant_id = (select tenantry.current_tenant_id())'),
      ('users', 'id = (select tenantry.current_user_id()) or exists (
         select from tenantry.tenant_memberships as m
         where m.user_id = users.id and m.tenant_id = (select tenantry.current_tenant_id()) and m.ended_at is null)')
    ) as t(name, predicate)
  loop
    execute format('alter table tenantry.%I enable row level security', confined.name);
    execute format('drop policy if exists own_tenant on tenantry.%I', confined.name);
    execute format('create policy own_tenant on tenantry.%I for select to tenantry_tenant using (%s)', confined.name, confined.predicate);
    execute format('drop policy if exists bypass on tenantry.%I', confined.name);
    execute format('create policy bypass on tenantry.%I for select to tenantry_bypass using (true)', confined.name);
  end loop;
end
$$;

revoke all on all tables in schema tenantry from public, tenantry_tenant, tenantry_app, tenantry_bypass;
revoke all on all sequences in schema tenantry from public, tenantry_tenant, tenantry_app, tenantry_bypass;
revoke all on all functions in schema tenantry from public, tenantry_tenant, tenantry_app, tenantry_bypass;

grant select on tenantry.tenants, tenantry.users, tenantry.tenant_memberships, tenantry.members, tenantry.invitations,
  tenantry.domains, tenantry.roles, tenantry.permissions, tenantry.role_permissions to tenantry_tenant;
grant select on tenantry.migrations, tenantry.table_isolation, tenantry.clerk_instance to tenantry_app, tenantry_tenant;
-- The operator's view, without a tenant: deliveries, changes, runs. Not for tenantry_tenant.
grant select on tenantry.webhook_events, tenantry.changes, tenantry.consumers, tenantry.reconcile_runs, tenantry.reconcile_pages to tenantry_app;
grant select on tenantry.followers, tenantry.follower_gaps to tenantry_app;  -- for check_v1
-- A dump runs as the bypass: it reads everything.
grant select on all tables in schema tenantry to tenantry_bypass;
grant select on all sequences in schema tenantry to tenantry_bypass;
grant references (id) on tenantry.tenants to tenantry_app;  -- for the foreign keys of isolated tables

-- Entry points for the app's logins, and what those of them that run with the caller's rights call in turn.
do $$
declare
  f record;
begin
  for f in
    select p.oid::regprocedure as signature, p.proname as name from pg_proc as p
    where p.pronamespace = 'tenantry'::regnamespace and p.prokind = 'f'
  loop
    if f.name ~ '_v[0-9]+$' or f.name in (
        'resolve_identity', 'resolve_tenant', 'enter_tenant', 'refuse_leftovers', 'clerk_text', 'clerk_object',
        'find_tenant', 'register_isolation', 'check_isolation_options', 'prepare_tenant_column', 'partitions_of',
        'isolation_predicate', 'enforce_isolation', 'remove_policies', 'grant_table', 'grant_schema', 'grant_sequences',
        'sequences_of', 'views_of', 'confine_views', 'check_tables', 'check_keys', 'check_readers', 'check_followers', 'check_roles',
        'isolation_holds', 'isolation_statement', 'columns_of', 'is_unique', 'confined_tables',
        'check_follower_options', 'follower_routine', 'follower_writes', 'register_follower', 'forget_follower',
        'hold_tenants') then
      execute format('grant execute on function %s to tenantry_app', f.signature);
    end if;
    if f.name in (
        'current_context', 'current_tenant_id', 'current_org_id', 'current_user_id', 'has_role', 'has_permission', 'can',
        'permission_matches', 'role_key', 'raise_error', 'refuse_second_context', 'set_tenant_v1',
        'set_tenant_by_id_v1', 'enter_change_v1', 'bypass_tenant_v1', 'end_bypass_v1') then
      execute format('grant execute on function %s to tenantry_app, tenantry_tenant, tenantry_bypass', f.signature);
    end if;
  end loop;
end
$$;

comment on table tenantry.migrations is 'functions 0.1.0 b53198f1b3309b7279e28078b7f54dd05fcf804c78a49413d9aeb8f29b93449f';
reset role;
set local check_function_bodies = on;
commit;
