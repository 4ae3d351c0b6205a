-- check_v1 about keys and indexes of isolated tables: TC1x.
create or replace function tenantry.check_keys()
returns table (name text, object text, code text, explanation text, fix text) language plpgsql stable as $$
begin
  -- A generated key is nobody's to choose, and a uuid cannot be guessed: neither tells.
  return query
  select 'unique-across-tenants', i.relation::text, 'TC10',
    format('%s is unique across tenants: an insert that fails tells that another tenant has the value.', x.indexrelid::regclass)
    || case when x.indisexclusion then ' With the tenant, a gist index takes the extension btree_gist.' else '' end,
    case when x.indisexclusion
      then format('alter table %s drop constraint %I, add %s;', i.relation, k.conname,
        regexp_replace(pg_get_constraintdef(k.oid), '\(', format('(%I with =, ', i.tenant_column)))
      when k.conname is not null
      then format('alter table %s drop constraint %I, add %s%s (%I, %s);', i.relation, k.conname, case k.contype when 'p' then 'primary key' else 'unique' end,
        case when x.indnullsnotdistinct then ' nulls not distinct' end, i.tenant_column, columns)
      else format('drop index %s; create unique index on %s (%I, %s)%s%s;', x.indexrelid::regclass, i.relation, i.tenant_column, columns,
        case when x.indnullsnotdistinct then ' nulls not distinct' end, ' where ' || pg_get_expr(x.indpred, x.indrelid))
    end
  from tenantry.table_isolation as i
  join pg_index as x on x.indrelid = i.relation and (x.indisunique or x.indisexclusion)
  join pg_attribute as t on t.attrelid = i.relation and t.attname = i.tenant_column
  left join pg_constraint as k on k.conindid = x.indexrelid and k.conrelid = i.relation and k.contype in ('p', 'u', 'x')
  cross join lateral (select string_agg(pg_get_indexdef(x.indexrelid, n, true), ', ' order by n) from generate_series(1, x.indnkeyatts) as n) as keys(columns)
  where i.mode = 'isolated' and not t.attnum = any (x.indkey) and not exists (select from pg_inherits where inhrelid = i.relation)
    and not exists (
      select from pg_attribute as a
      where a.attrelid = i.relation and x.indnkeyatts = 1 and a.attnum = x.indkey[0]
        and (a.atttypid = 'uuid'::regtype or (x.indisprimary and (a.atthasdef or a.attidentity <> ''))));

  return query
  select 'reference-across-tenants', i.relation::text, 'TC11',
    format('Foreign key %I does not carry the tenant: a row may refer to another tenant''s, and its deletion may cascade there.', k.conname),
    case when i.tenant_key <> there.tenant_key then
      format('No key can carry it: %s tells its tenant by %s, %s by %s. Isolate both by the same one.', i.relation, i.tenant_key, k.confrelid::regclass, there.tenant_key)
    else  -- The owner, under a forced policy, could not validate a key.
    format('alter table %1$s no force row level security; alter table %2$s no force row level security; ', i.relation, k.confrelid::regclass)
    || case when not tenantry.is_unique(k.confrelid, there.tenant_column || target.names) then
      format('alter table %s add unique (%I, %s); ', k.confrelid::regclass, there.tenant_column, target.list) else '' end
    || format('alter table %s drop constraint %I, add foreign key (%I, %s) references %s (%I, %s)', i.relation, k.conname,
      i.tenant_column, source.list, k.confrelid::regclass, there.tenant_column, target.list)
    || case k.confdeltype when 'c' then ' on delete cascade' when 'r' then ' on delete restrict' when 'n' then format(' on delete set null (%s)', source.list)
      when 'd' then format(' on delete set default (%s)', source.list) else '' end
    || case k.confupdtype when 'c' then ' on update cascade' else '' end
    || format('; alter table %1$s force row level security; alter table %2$s force row level security;', i.relation, k.confrelid::regclass)
    end
  from tenantry.table_isolation as i
  join pg_constraint as k on k.conrelid = i.relation and k.contype = 'f' and k.conparentid = 0
  join tenantry.table_isolation as there on there.relation = k.confrelid and there.mode = 'isolated'
  cross join lateral tenantry.columns_of(k.conrelid, k.conkey) as source
  cross join lateral tenantry.columns_of(k.confrelid, k.confkey) as target
  where i.mode = 'isolated' and not exists (select from pg_inherits where inhrelid = i.relation)
    and not exists (
      select from generate_subscripts(k.conkey, 1) as n
      join pg_attribute as mine on mine.attrelid = k.conrelid and mine.attnum = k.conkey[n]
      join pg_attribute as theirs on theirs.attrelid = k.confrelid and theirs.attnum = k.confkey[n]
      where mine.attname = i.tenant_column and theirs.attname = there.tenant_column);

  -- Under any policy the planner may not run a function that could leak on rows the policy has not passed, so such an
  -- index serves no query of a tenant: not lower(), LIKE, enum, numeric, jsonb, arrays, text search.
  return query
  select 'index-unusable', i.relation::text, 'TC12',
    format('No policy lets a query use %s beyond its tenant: %s is not leakproof.', x.indexrelid::regclass, pg_get_indexdef(x.indexrelid, n + 1, true)),
    format('Index a stored generated column (%s) led by %I, with a type whose comparison is leakproof: text, uuid, int, timestamptz.',
      pg_get_indexdef(x.indexrelid, n + 1, true), i.tenant_column)
  from tenantry.table_isolation as i
  join pg_index as x on x.indrelid = i.relation
  cross join lateral generate_series(0, x.indnkeyatts - 1) as n
  join pg_opclass as o on o.oid = x.indclass[n]
  where i.mode = 'isolated' and not exists (select from pg_inherits where inhrelid = i.relation)
    and (x.indkey[n] = 0 or o.opcname like '%pattern_ops' or exists (
      select from pg_amop as m join pg_operator as op on op.oid = m.amopopr join pg_proc as p on p.oid = op.oprcode
      where m.amopfamily = o.opcfamily and m.amoplefttype = o.opcintype and m.amoprighttype = o.opcintype and not p.proleakproof));
end
$$;
