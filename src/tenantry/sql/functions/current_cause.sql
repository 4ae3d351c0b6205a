-- What the changes of this transaction are due to: see state_cause. 'sql' where somebody writes by hand.
create or replace function tenantry.current_cause()
returns text language sql stable as $$
  select coalesce(nullif(current_setting('tenantry.cause', true), ''), 'sql')
$$;
