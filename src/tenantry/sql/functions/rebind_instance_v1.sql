-- Binds the database to another Clerk instance: after copying production into staging. The mirrored rows stay, and a
-- reconcile run ends those the new instance does not know. Who may call: tenantry_app.
create or replace function tenantry.rebind_instance_v1(instance_id text)
returns jsonb language plpgsql security definer set search_path = pg_catalog, tenantry, pg_temp as $$
declare
  before constant text := tenantry.bound_instance();
begin
  if coalesce(instance_id, '') !~ '^ins_[A-Za-z0-9_]+$' then
    perform tenantry.raise_error('TY010', 'an instance id looks like ins_...');
  end if;
  insert into tenantry.clerk_instance as i (instance_id) values (rebind_instance_v1.instance_id)
  on conflict (singleton) do update set instance_id = excluded.instance_id, bound_at = now();
  return jsonb_build_object('before', before, 'instance_id', instance_id);
end
$$;
