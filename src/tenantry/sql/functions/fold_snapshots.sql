-- Snapshots of several objects, in key order and one of each object: the newest, with what all of them say about its
-- life, and in doubt where two of its revision differ. Pass null for `kept` and `shown`: they are variables, and plpgsql
-- names a polymorphic row type in no other way.
create or replace function tenantry.fold_snapshots(rows anyarray, kept anyelement, shown anyelement)
returns anyarray language plpgsql stable as $$
declare
  folded  rows%type;
  objects bigint;
begin
  if cardinality(rows) = 1 then
    return rows;
  end if;
  select array_agg(r order by r.id), count(distinct r.id) into folded, objects from unnest(rows) as r;
  if objects = cardinality(rows) then
    return folded;
  end if;
  folded := '{}';
  for shown in
    select * from unnest(rows) as r order by r.id, r.revision desc nulls last, r.observed_at desc nulls last, r.content_hash desc nulls last
  loop
    if shown.id = kept.id then
      kept.needs_refetch := coalesce(kept.needs_refetch, false)
        or coalesce(shown.revision > 0 and shown.revision = kept.revision and shown.content_hash <> kept.content_hash, false);
      kept.last_seen := greatest(kept.last_seen, shown.last_seen);
      kept.last_absent := greatest(kept.last_absent, shown.last_absent);
      kept.deleted_at := greatest(kept.deleted_at, shown.deleted_at);
    else
      if kept.id is not null then
        folded := folded || kept;
      end if;
      kept := shown;
    end if;
  end loop;
  return folded || kept;
end
$$;
