-- The changes after a position, in order: {"after": <pos, default 0>, "limit": <default 100, at most 1000>} ->
-- {"changes": [{"pos", "kind", "object_id", "tenant_id", "user_id", "before", "after", "cause", "message_id", "at"}, ...],
--  "pos": <of the last one, or `after`>}. Reads what sequence_changes_v1 has placed.
-- Raises TY010 where either is no whole number from 0 on. Who may call: tenantry_app.
create or replace function tenantry.read_changes_v1(options jsonb default '{}')
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  start bigint;
  count integer;
begin
  if coalesce(options ->> 'after', '0') !~ '^\d{1,18}$' or coalesce(options ->> 'limit', '0') !~ '^\d{1,9}$' then
    perform tenantry.raise_error('TY010', 'after and limit are whole numbers');
  end if;
  start := coalesce((options ->> 'after')::bigint, 0);
  count := least(coalesce((options ->> 'limit')::integer, 100), 1000);
  return (
    select jsonb_build_object('changes', coalesce(jsonb_agg(to_jsonb(c) - 'seq' order by c.pos), '[]'), 'pos', coalesce(max(c.pos), start))
    from (select * from tenantry.changes where pos > start order by pos limit count) as c);
end
$$;
