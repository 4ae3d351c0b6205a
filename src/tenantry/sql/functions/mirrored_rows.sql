-- The rows of these objects of Clerk, by id: {"<Clerk id>": {...}}; absent where the mirror has none.
create or replace function tenantry.mirrored_rows(kind text, ids text[])
returns jsonb language plpgsql stable as $$
declare
  found jsonb;
begin
  execute format('select jsonb_object_agg(k.%1$I, to_jsonb(k)) from %2$s as k where k.%1$I = any ($1)',
    tenantry.key_of(kind), tenantry.mirrored_table(kind)) using ids into found;
  return coalesce(found, '{}');
end
$$;
