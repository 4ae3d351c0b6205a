-- Forgets a consumer and its position; answers {"removed": true or false}. One that still has a handler in a running app
-- comes back, from where a new one starts. Who may call: tenantry_app.
create or replace function tenantry.remove_consumer_v1(consumer text)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
begin
  delete from tenantry.consumers as c where c.name = consumer;
  return jsonb_build_object('removed', found);
end
$$;
