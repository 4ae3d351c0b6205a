-- A project tracker: teams are plain rows, keys are composite, natural or quoted, one table is partitioned.
create schema billing;

create table teams (id integer primary key, name text not null);
create table users (
  id            uuid primary key default gen_random_uuid(),
  clerk_user_id text unique,
  team_id       integer not null references teams (id),
  email         text not null unique
);

create table projects (
  id       bigint generated always as identity primary key,
  owner_id uuid not null references users (id),
  key      text not null unique,
  name     text not null
);

create table issues (
  project_id bigint not null references projects (id) on update cascade on delete cascade,
  number     integer not null,
  title      text not null,
  blocked_by integer,
  assignee   uuid references users (id) on delete set null,
  closed_at  timestamptz,
  primary key (project_id, number),
  foreign key (project_id, blocked_by) references issues (project_id, number)
);
create index issues_by_assignee on issues (assignee);

create table labels (
  project_id bigint not null references projects (id) on delete cascade,
  name       text not null,
  primary key (project_id, name)
);
create table issue_labels (
  project_id bigint not null,
  number     integer not null,
  label      text not null,
  primary key (project_id, number, label),
  foreign key (project_id, number) references issues (project_id, number) on delete cascade,
  foreign key (project_id, label) references labels (project_id, name) on update cascade on delete cascade
);

create table "TimeEntries" (
  "Id"      bigint generated always as identity primary key,
  "user"    uuid not null references users (id),
  "project" bigint not null references projects (id),
  "number"  integer,
  minutes   numeric(8, 2) not null,
  foreign key ("project", "number") references issues (project_id, number)
);

create table events (
  id         bigint generated always as identity,
  project_id bigint not null references projects (id) on delete cascade,
  at         timestamptz not null,
  what       jsonb not null default '{}',
  primary key (id, at)
) partition by range (at);
create table events_2025 partition of events for values from ('2025-01-01') to ('2026-01-01');
create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
create index events_by_project on events (project_id, at);

create table billing.invoices (
  number  text primary key,
  user_id uuid not null references users (id),
  total   numeric(10, 2) not null
);
