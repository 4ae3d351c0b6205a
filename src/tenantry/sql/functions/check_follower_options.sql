-- Refuses what follow_tenants_v1 cannot do, naming why.
create or replace function tenantry.check_follower_options(relation regclass, options jsonb, org_column name, columns jsonb)
returns void language plpgsql as $$
declare
  kind  "char";
  owner oid;
  wrong text;
begin
  perform tenantry.refuse_second_context();
  select c.relkind, c.relowner into kind, owner from pg_class as c where c.oid = relation;
  if kind is null or kind not in ('r', 'p') then
    perform tenantry.raise_error('TY030', format('%s is no table', coalesce(relation::text, 'null')));
  elsif not pg_has_role(owner, 'usage') then
    perform tenantry.raise_error('TY030', format('%s belongs to %I: only its owner may have it follow, and you are %I', relation, pg_get_userbyid(owner), current_user));
  elsif not (select has_schema_privilege(owner, c.relnamespace, 'create') from pg_class as c where c.oid = relation) then
    perform tenantry.raise_error('TY030', format('%I may not create a function in the schema of %s, which is to write it', pg_get_userbyid(owner), relation));
  elsif jsonb_typeof(options) <> 'object' or jsonb_typeof(columns) <> 'object' then
    perform tenantry.raise_error('TY010', 'options, and columns in them, are JSON objects');
  end if;
  select option into wrong from jsonb_object_keys(options) as option where option not in ('org_id', 'columns', 'copy') limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY010', format('unknown option %L: org_id, columns and copy are known', wrong));
  elsif coalesce(options ->> 'copy', 'later') <> 'later' then
    perform tenantry.raise_error('TY010', 'option "copy" is "later" or left out');
  end if;
  select w.what into wrong from jsonb_each(columns) as w(what, place)
  where w.what not in (select what from tenantry.follower_writes()) or jsonb_typeof(w.place) <> 'string' limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY010', format('columns.%s: %s can be copied, each into a column', wrong,
      (select string_agg(what, ', ') from tenantry.follower_writes())));
  end if;

  select coalesce(w.what, 'org_id') into wrong
  from (select null, org_column::text, '{text,varchar}'::regtype[]
        union all select c.key, c.value, k.types from jsonb_each_text(columns) as c join tenantry.follower_writes() as k on k.what = c.key) as w(what, place, types)
  left join pg_attribute as a on a.attrelid = relation and a.attname = w.place and a.attnum > 0 and not a.attisdropped
  where a.attname is null or a.attgenerated <> '' or a.attidentity <> '' or not a.atttypid = any (w.types::oid[])
     or w.what = 'deleted_at' and a.attnotnull and a.atttypid <> 'boolean'::regtype
  limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY030', format('%s has no column %I that could hold %s', relation, coalesce(columns ->> wrong, org_column), wrong));
  end if;
  select c.value into wrong from jsonb_each_text(columns) as c group by 1 having count(*) > 1 or c.value = org_column limit 1;
  if wrong is not null then
    perform tenantry.raise_error('TY030', format('the column %I of %s is named twice', wrong, relation));
  elsif not exists (
      select from pg_index as i join pg_attribute as a on a.attrelid = i.indrelid and a.attname = org_column
      where i.indrelid = relation and i.indisunique and i.indisvalid and i.indpred is null and a.attnum = any (i.indkey)) then
    perform tenantry.raise_error('TY030', format('%I of %s is not unique: an organization has one row', org_column, relation));
  end if;
  select string_agg(quote_ident(a.attname), ', ') into wrong from pg_attribute as a
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attnotnull and not a.atthasdef and a.attidentity = ''
    and a.attname <> org_column and a.attname not in (select c.value from jsonb_each_text(columns) as c);
  if wrong is not null then
    perform tenantry.raise_error('TY030', format(
      'no row could be added to %s: %s may not be null. Name what is copied into it, or give it a default', relation, wrong));
  end if;
end
$$;
