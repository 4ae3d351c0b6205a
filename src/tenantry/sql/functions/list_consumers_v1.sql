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
