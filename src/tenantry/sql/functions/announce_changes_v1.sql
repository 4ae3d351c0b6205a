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
