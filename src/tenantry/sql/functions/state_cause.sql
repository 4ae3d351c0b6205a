-- States, for this transaction, what the changes it makes are due to: webhook, reconcile or token; and, for webhooks,
-- which delivery told about which object: {"<Clerk id>": "<message id>"}.
create or replace function tenantry.state_cause(cause text, deliveries jsonb default '{}')
returns void language plpgsql as $$
begin
  perform set_config('tenantry.cause', cause, true), set_config('tenantry.deliveries', deliveries::text, true);
end
$$;
