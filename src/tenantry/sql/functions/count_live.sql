-- How many of these objects the mirror has and holds for live.
create or replace function tenantry.count_live(kind text, ids text[])
returns bigint language plpgsql stable as $$
declare
  live bigint;
begin
  execute format('select count(*) from %2$s as k where k.%1$I = any ($1) and k.ended_at is null',
    tenantry.key_of(kind), tenantry.mirrored_table(kind)) using ids into live;
  return live;
end
$$;
