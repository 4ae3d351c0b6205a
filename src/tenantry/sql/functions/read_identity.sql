-- A verified token's facts, out of its JSON in one go: what runs at the start of every transaction pays for each
-- operator. Refuses (TY010) an identity without the facts every decision needs; times are seconds since 1970.
create or replace function tenantry.read_identity(identity jsonb)
returns tenantry.identity_facts language plpgsql immutable as $$
declare
  facts tenantry.identity_facts;
begin
  if jsonb_typeof(identity) is distinct from 'object' then
    perform tenantry.raise_error('TY010', 'the identity is no object');
  end if;
  facts := jsonb_populate_record(facts, identity);
  if coalesce(facts.user_id, '') = '' then
    perform tenantry.raise_error('TY010', 'the identity lacks user_id');
  elsif (facts.issued_at between '0' and '1e11') is not true then  -- jsonb orders every number apart from all else
    perform tenantry.raise_error('TY010', 'the identity lacks issued_at (seconds)');
  elsif (facts.expires_at between '0' and '1e11') is not true then
    perform tenantry.raise_error('TY010', 'the identity lacks expires_at (seconds)');
  end if;
  return facts;
end
$$;
