-- Begins the transaction in which a consumer deals with a change: moves the consumer on to it (advance_consumer_v1) and
-- enters the tenant that the change concerns, for the app itself. The feed tells what was, so that an organization that
-- has been deleted since is entered as well. A change that concerns no tenant leaves the transaction without one.
--
-- returns: as advance_consumer_v1; where it answers {"taken": true}, no tenant is entered
--
-- Who may call: tenantry_app, as the first statement of a transaction. Raises TY002, TY003, TY010.
create or replace function tenantry.enter_change_v1(consumer text, pos bigint, options jsonb)
returns jsonb language plpgsql as $$
declare
  answer jsonb;
begin
  perform tenantry.refuse_second_context();
  answer := tenantry.advance_consumer_v1(consumer, pos, options);
  if jsonb_typeof(answer -> 'context') = 'object' then
    raise log 'tenantry: tenant % set by id: change % for consumer %', answer #>> '{context,tenant_id}', pos, consumer;
    perform tenantry.enter_tenant(answer -> 'context');
  end if;
  return answer;
end
$$;
