-- Organizations by hand, as tutorials have it: a copy of Clerk's organizations, kept by the app's own webhook, and
-- Clerk's id of one in every table; newer tables refer to the copy by a number of its own.
create table organizations (
  id           bigint generated always as identity primary key,
  clerk_org_id text not null unique,
  name         text not null
);
create table documents (
  id     uuid primary key default gen_random_uuid(),
  org_id text not null,
  title  text not null,
  unique (org_id, title)
);
create index documents_by_title on documents (title);
create table paragraphs (
  id          bigint generated always as identity primary key,
  document_id uuid not null references documents (id) on delete cascade,
  text        text not null
);
create table invoices (
  id              bigint generated always as identity primary key,
  organization_id bigint not null references organizations (id),
  total           integer not null
);
create table invoice_lines (
  invoice_id bigint not null references invoices (id) on delete cascade,
  line       integer not null,
  primary key (invoice_id, line)
);
create table plans (name text primary key);
insert into plans values ('free'), ('team');
