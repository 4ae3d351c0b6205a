-- Begins the transaction in which a consumer deals with a change: moves the consumer on to it (advance_consumer_v1) and
-- enters the tenant that the change concerns, for the app itself. The feed tells what was, so that an organization that
-- has been deleted since is entered as well. A change that concerns no tenant, or one that has been
-- purged since, leaves the transaction without one.
--
-- options: as advance_consumer_v1; "timeout": for how many ms a statement may run, or the transaction do nothing, before
--          the server ends it; from PostgreSQL 17 on also when all of it has taken twice as long,
--          save where the login has a transaction_timeout of its own: PostgreSQL starts that clock once
-- returns: as advance_consumer_v1; where it answers {"taken": true}, no tenant is entered
--
-- Who may call: tenantry_app, as the first statement of a transaction. Raises TY002, TY003, TY010.
create or replace function tenantry.enter_change_v1(consumer text, pos bigint, options jsonb)
returns jsonb language plpgsql as $$
declare
  answer jsonb;
begin
  perform tenantry.refuse_second_context();
  if coalesce(options ->> 'timeout', '1') !~ '^[1-9]\d{0,8}$' then
    perform tenantry.raise_error('TY010', 'timeout is a whole number of milliseconds');
  end if;
  -- Where the server knows it, and the login's own is not shorter.
  perform set_config(name, most::text, true)
  from (values ('statement_timeout', 1), ('idle_in_transaction_session_timeout', 1), ('transaction_timeout', 2)) as known(name, times)
  cross join lateral (select times * (options ->> 'timeout')::bigint as most) as wanted
  where options ? 'timeout'
    and current_setting(name, true)::interval not between interval '1 ms' and most * interval '1 ms';
  answer := tenantry.advance_consumer_v1(consumer, pos, options);
  if jsonb_typeof(answer -> 'context') = 'object' then
    raise log 'tenantry: tenant % set by id: change % for consumer %', answer #>> '{context,tenant_id}', pos, consumer;
    perform tenantry.enter_tenant(answer -> 'context');
  end if;
  return answer;
end
$$;
