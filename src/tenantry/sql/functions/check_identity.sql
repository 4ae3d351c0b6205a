-- Refuses (TY010) an identity without the facts every decision needs.
create or replace function tenantry.check_identity(identity jsonb)
returns void language plpgsql as $$
begin
  if tenantry.clerk_text(identity, 'user_id') is null then
    perform tenantry.raise_error('TY010', 'the identity lacks user_id');
  elsif jsonb_typeof(identity -> 'issued_at') is distinct from 'number' or jsonb_typeof(identity -> 'expires_at') is distinct from 'number' then
    perform tenantry.raise_error('TY010', 'the identity lacks issued_at or expires_at (seconds)');
  end if;
end
$$;
