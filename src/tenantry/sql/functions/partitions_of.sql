-- All partitions and inheritance children of a table, at any depth.
create or replace function tenantry.partitions_of(relation regclass)
returns regclass[] language sql stable as $$
  with recursive below(relation) as (
    select inhrelid::regclass from pg_inherits where inhparent = partitions_of.relation
    union select i.inhrelid::regclass from pg_inherits as i join below on i.inhparent = below.relation
  )
  select coalesce(array_agg(relation order by relation::text), '{}') from below
$$;
