-- What replay_events_v1 answers: for each id what was judged of it, and what it changed in the feed since `last_change`.
create or replace function tenantry.answer_replay(ids text[], judged jsonb, last_change bigint)
returns jsonb language plpgsql stable as $$
begin
  return (
    with told as materialized (
      select c.message_id, jsonb_agg(jsonb_build_object('kind', c.kind, 'object_id', c.object_id) order by c.seq) as changes
      from tenantry.changes as c where c.seq > last_change and c.message_id = any (ids) group by 1
    )
    select coalesce(jsonb_agg(
      coalesce(judged -> asked.id, jsonb_build_object('message_id', asked.id, 'outcome', 'unknown'))
      || case when judged #>> array[asked.id, 'outcome'] = 'stale' and judged #>> array[asked.id, 'was'] <> 'failed'
           then jsonb_build_object('outcome', case when t.changes is null then 'unchanged' else 'applied' end) else '{}' end
      || jsonb_build_object('changes', coalesce(t.changes, '[]')) order by asked.place), '[]')
    from (select id, min(place) as place from unnest(ids) with ordinality as u(id, place) group by 1) as asked
    left join told as t on t.message_id = asked.id);
end
$$;
