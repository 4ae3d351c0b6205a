-- Gives up to `most` committed changes their place in the order of reading; answers how many. Its callers hold the
-- sequencer's lock, and never two at a time: see sequence_changes_v1.
create or replace function tenantry.place_changes(most integer)
returns bigint language plpgsql as $$
declare
  placed bigint;
begin
  with placed as (
    update tenantry.changes as c set pos = next.pos
    from (select seq, nextval('tenantry.changes_pos') as pos
          from (select seq from tenantry.changes where pos is null order by seq limit most) as unplaced) as next
    where c.seq = next.seq
    returning 1
  )
  select count(*) into placed from placed;
  return placed;
end
$$;
