-- The statement that makes the function which writes a following table's rows, see follow_tenants_v1: it sets each
-- organization as the tenant, which hand_over takes back. Deferred constraints of the app are asked at once, so that
-- they refuse the copy, and not the commit of who merges.
create or replace function tenantry.follower_routine(relation regclass, routine text, org_column name, columns jsonb)
returns text language plpgsql stable as $$
declare
  schema   text;
  target   text;
  own      constant text := format('t.%I::text = o.org_id', org_column);
  places   text;
  values_  text;
  sets     text;
  differs  text;
  marks    text;
  unmarked text;
begin
  select format('%I', n.nspname), format('%I.%I', n.nspname, c.relname) into schema, target
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = relation;

  select string_agg(format(', %I', place), '' order by place), string_agg(', ' || fresh, '' order by place),
    string_agg(format('%I = %s', place, kept), ', ' order by place) filter (where what <> 'created_at'),
    string_agg(format('t.%I::text is distinct from (%s)::text', place, kept), E'\n          or ' order by place) filter (where what not in ('created_at', 'updated_at')),
    string_agg(format('%I = %s', place, case when flag then 'true' else 'o.' || what end), ', ' order by place)
      filter (where what in ('deleted_at', 'updated_at')),
    string_agg(format(case when flag then 't.%I is distinct from true' else 't.%I is null' end, place), '') filter (where what = 'deleted_at')
  into places, values_, sets, differs, marks, unmarked
  from (
    select c.key as what, c.value as place, c.flag,
      case when c.flag then 'false' when c.key = 'deleted_at' then 'null' when c.required then format('coalesce(o.%s, o.org_id)', c.key) else 'o.' || c.key end as fresh,
      case when c.flag then 'false' when c.key = 'deleted_at' then 'null' when c.required then format('coalesce(o.%s, t.%I::text)', c.key, c.value) else 'o.' || c.key end as kept
    from (select k.key, k.value, a.atttypid = 'boolean'::regtype as flag, a.attnotnull and k.key in ('name', 'slug', 'image_url') as required
          from jsonb_each_text(columns) as k join pg_attribute as a on a.attrelid = relation and a.attname = k.value) as c
  ) as written;

  return format('create or replace function %s(organizations jsonb)
returns void language plpgsql security definer
set search_path = pg_catalog, %s, pg_temp set timezone = ''UTC''
as $follow$
#variable_conflict use_column
declare
  o record;
begin
  for o in select * from jsonb_to_recordset(organizations) as r (id text, org_id text, context text, name text, slug text,
    image_url text, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz)
  loop
    perform set_config(''tenantry.tenant_id'', o.id, true), set_config(''tenantry.org_id'', o.org_id, true),
      set_config(''tenantry.context'', o.context, true);
', routine, schema)
  || case when unmarked is not null then format('    if o.deleted_at is not null then
      update %s as t set %s where %s and %s;
    end if;
', target, marks, own, unmarked) else '' end
  || format('    continue when o.deleted_at is not null;
    if not exists (select from %1$s as t where %2$s) then
      begin
        insert into %1$s (%3$I%4$s) values (o.org_id%5$s);
      exception when unique_violation then  -- the app was first, or the key is another organization''s
        if not exists (select from %1$s as t where %2$s) then
          raise;
        end if;
      end;
    end if;
', target, own, org_column, places, values_)
  || case when differs is not null then format('    update %s as t set %s
    where %s and (
          %s);
', target, sets, own, differs) else '' end
  || '  end loop;
  set constraints all immediate;
end
$follow$';
end
$$;
