-- Ends the bypass and restores the role of before, so that a migration can go on with DDL.
create or replace function tenantry.end_bypass_v1()
returns jsonb language plpgsql as $$
begin
  if current_setting('role') <> 'tenantry_bypass' then
    perform tenantry.raise_error('TY010', 'no bypass is open');
  end if;
  perform set_config('role', coalesce(nullif(current_setting('tenantry.bypass_from', true), ''), 'none'), true),
          set_config('tenantry.bypass_reason', '', true);
  return '{}';
end
$$;
