-- Opens every tenant to this transaction: for migrations of data, exports, support. The reason goes to the server's
-- log and stays readable as current_setting('tenantry.bypass_reason').
--
-- returns: {"bypass": "<reason>"}; raises TY002 inside a tenant, TY010 without a reason
--
-- Who may call: tenantry_app, through a gate: the login itself does not have the bypass' rights.
create or replace function tenantry.bypass_tenant_v1(reason text)
returns jsonb language plpgsql as $$
begin
  perform tenantry.refuse_second_context();
  if coalesce(trim(reason), '') = '' then
    perform tenantry.raise_error('TY010', 'state a reason');
  end if;
  raise log 'tenantry: bypass: %', reason;
  perform set_config('tenantry.bypass_reason', reason, true),
          set_config('tenantry.bypass_from', current_setting('role'), true),
          set_config('role', 'tenantry_bypass', true);
  return jsonb_build_object('bypass', reason);
end
$$;
