-- The isolated tables, of a partitioned one the whole, and the foreign keys that lead to them or to tenants from outside
-- the schema: what a tenant's rows are found, and deleted in order, by.
--
-- returns: {"tables": [{"table", "column", "key": id or clerk_org_id, "parts": whether it has partitions or children}, ...],
--           "references": [{"name", "table", "columns": [...], "to", "to_columns": [...], "isolated": whether its table is,
--                           "readable": whether the bypass may read it}, ...]}; names are quoted as SQL needs them
--
-- Who may call: tenantry_app.
create or replace function tenantry.list_isolated_v1()
returns jsonb language plpgsql stable security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  return (
    with recursive above(relation, root) as (
      select i.relation::oid, i.relation::oid from tenantry.table_isolation as i join pg_class as c on c.oid = i.relation
      where i.mode = 'isolated' and not exists (
        select from pg_inherits as h join tenantry.table_isolation as p on p.relation = h.inhparent and p.mode = 'isolated' where h.inhrelid = i.relation)
      union
      select h.inhrelid, above.root from pg_inherits as h join above on above.relation = h.inhparent
    ), named as (
      select c.oid, n.oid as schema, format('%I.%I', n.nspname, c.relname) as name from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    ), keys as (
      select k.*, coalesce(a.root, k.conrelid) as from_root, coalesce(b.root, k.confrelid) as to_root, a.root is not null as isolated
      from pg_constraint as k
      left join above as a on a.relation = k.conrelid
      left join above as b on b.relation = k.confrelid
      where k.contype = 'f' and k.conparentid = 0 and k.connamespace <> 'tenantry'::regnamespace
        and (b.root is not null or k.confrelid = 'tenantry.tenants'::regclass)
    )
    select jsonb_build_object(
      'tables', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'table', named.name, 'column', quote_ident(i.tenant_column), 'key', i.tenant_key,
          'parts', exists (select from pg_inherits where inhparent = i.relation)) order by named.name), '[]')
        from tenantry.table_isolation as i join named on named.oid = i.relation where i.relation in (select root from above)),
      'references', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'name', k.conname, 'table', child.name, 'to', parent.name, 'isolated', k.isolated,
          'readable', has_schema_privilege('tenantry_bypass', child.schema, 'usage') and has_table_privilege('tenantry_bypass', child.oid, 'select'),
          'columns', (select jsonb_agg(quote_ident(a.attname) order by place) from unnest(k.conkey) with ordinality as n(number, place)
                      join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = number),
          'to_columns', (select jsonb_agg(quote_ident(a.attname) order by place) from unnest(k.confkey) with ordinality as n(number, place)
                         join pg_attribute as a on a.attrelid = k.confrelid and a.attnum = number)) order by k.conname, k.conrelid), '[]')
        from keys as k join named as child on child.oid = k.from_root join named as parent on parent.oid = k.to_root)));
end
$$;
