-- Keeps what a page of a run has shown: see reconcile_pages. TY021 where another process has taken the run over.
-- A page that came in pieces, in order, is one row in the end. Absences have no number, and leave none.
-- `page`: {"id": <run>, "attempt": n, "part": "<organization or empty>", "number": n, "total": <of the listing>}
create or replace function tenantry.note_page(kind text, page jsonb, ids text[], created bigint, updated bigint)
returns void language plpgsql as $$
#variable_conflict use_column
begin
  perform tenantry.hold_run((page ->> 'id')::bigint, (page ->> 'attempt')::integer);
  if not page ? 'number' then
    return;
  end if;
  insert into tenantry.reconcile_pages (run_id, kind, part, number, total, first_id, last_id, seen, created, updated)
  values ((page ->> 'id')::bigint, note_page.kind, coalesce(page ->> 'part', ''), (page ->> 'number')::integer,
    (page ->> 'total')::integer, ids[1], ids[cardinality(ids)],
    array(select hashtextextended(id, 0) from unnest(ids) as id), note_page.created, note_page.updated)
  on conflict (run_id, kind, part, number) do update set
    total = excluded.total, last_id = excluded.last_id,
    seen = reconcile_pages.seen || excluded.seen,
    created = reconcile_pages.created + excluded.created, updated = reconcile_pages.updated + excluded.updated;
end
$$;
