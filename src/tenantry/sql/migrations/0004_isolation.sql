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
