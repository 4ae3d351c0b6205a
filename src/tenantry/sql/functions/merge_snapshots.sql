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
