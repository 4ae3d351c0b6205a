-- The pages a run has merged of a kind: {"pages": [{"number", "total", "first_id", "last_id"}, ...] in order and "seen":
-- <different objects>, both of one part; and of the whole kind {"listed": n, "created": n, "updated": n}.
-- Who may call: tenantry_app.
create or replace function tenantry.list_pages_v1(run_id bigint, kind text, part text default '')
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
#variable_conflict use_column
declare
  answer jsonb;
begin
  select jsonb_build_object(
    'pages', coalesce(jsonb_agg(jsonb_build_object('number', p.number, 'total', p.total, 'first_id', p.first_id, 'last_id', p.last_id)
      order by p.number) filter (where p.part = list_pages_v1.part), '[]'),
    'created', coalesce(sum(p.created), 0), 'updated', coalesce(sum(p.updated), 0))
  into answer
  from tenantry.reconcile_pages as p where p.run_id = list_pages_v1.run_id and p.kind = list_pages_v1.kind;
  return answer || (
    select jsonb_build_object('listed', count(distinct hash), 'seen', count(distinct hash) filter (where p.part = list_pages_v1.part))
    from tenantry.reconcile_pages as p, unnest(p.seen) as hash
    where p.run_id = list_pages_v1.run_id and p.kind = list_pages_v1.kind);
end
$$;
