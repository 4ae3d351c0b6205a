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
