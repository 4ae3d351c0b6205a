-- The names of a table's columns by their numbers, as an array and, quoted, as a list.
create or replace function tenantry.columns_of(relation regclass, numbers smallint[], out names name[], out list text)
language sql stable as $$
  select array_agg(a.attname order by c.place), string_agg(quote_ident(a.attname), ', ' order by c.place)
  from unnest(numbers) with ordinality as c(number, place)
  join pg_attribute as a on a.attrelid = relation and a.attnum = c.number
$$;
