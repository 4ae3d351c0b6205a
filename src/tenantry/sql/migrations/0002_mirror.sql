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
