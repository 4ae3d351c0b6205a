-- Sets the tenant of this transaction for work without a token: jobs, handlers, shells.
--
-- reason:  why, for the server's log
-- options: {"user_id": "user_..."}: act for this user, whose membership is checked now. Without one the app itself
--          acts: with every permission, and no role
--          {"instance_id": "ins_..."}: refuse where the database mirrors another Clerk instance
-- returns: as set_tenant_v1; raises TY002, TY003, TY010, TY012 to TY015, TY018, TY020
--
-- Who may call: tenantry_app.
create or replace function tenantry.set_tenant_by_id_v1(tenant_id uuid, reason text, options jsonb default '{}')
returns jsonb language plpgsql as $$
begin
  perform tenantry.refuse_second_context();
  if coalesce(trim(reason), '') = '' then
    perform tenantry.raise_error('TY010', 'state a reason');
  -- Whatever is not a user must not come to mean the app itself, which may do everything.
  elsif jsonb_typeof(options) <> 'object' or options - '{user_id,instance_id}'::text[] <> '{}' or tenantry.clerk_text(options, 'user_id') is null and options -> 'user_id' <> 'null' then
    perform tenantry.raise_error('TY010', 'the options are {"user_id": "user_..."}, or {} where the app itself acts');
  elsif tenantry.clerk_text(options, 'instance_id') <> (select i.instance_id from tenantry.clerk_instance as i) then
    perform tenantry.raise_error('TY018', format('the work is of %s', options ->> 'instance_id'));
  end if;
  raise log 'tenantry: tenant % set by id: %', tenant_id, reason;
  return tenantry.enter_tenant(tenantry.resolve_tenant(tenant_id, tenantry.clerk_text(options, 'user_id')));
end
$$;
