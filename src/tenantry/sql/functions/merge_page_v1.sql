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
