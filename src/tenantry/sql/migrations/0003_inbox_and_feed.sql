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
