-- Whether a table keeps exactly these columns, together, unique, so that a foreign key may refer to them.
create or replace function tenantry.is_unique(relation regclass, columns name[])
returns boolean language sql stable as $$
  select exists (
    select from pg_index as x
    where x.indrelid = relation and x.indisunique and x.indisvalid and x.indpred is null and x.indimmediate and x.indnkeyatts = cardinality(columns)
      and not exists (
        select from generate_series(0, x.indnkeyatts - 1) as n
        left join pg_attribute as a on a.attrelid = relation and a.attnum = x.indkey[n]
        where a.attname is null or a.attname <> all (columns)))
$$;
