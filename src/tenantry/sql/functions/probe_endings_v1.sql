-- Sends a notice to whoever listens on `tenantry_endings`: how a listener learns, over another connection, that notices
-- reach it. Behind a pooler that serves each transaction by another connection they do not.
--
-- nonce:   returned to the listener as `probe <nonce>`
-- returns: {}; raises TY010 where there is no nonce, or a long one
--
-- Who may call: tenantry_app.
create or replace function tenantry.probe_endings_v1(nonce text)
returns jsonb language plpgsql as $$
begin
  if coalesce(nonce, '') !~ '^[A-Za-z0-9_-]{1,64}$' then
    perform tenantry.raise_error('TY010', 'a nonce has 1 to 64 characters of A-Z, a-z, 0-9, _ and -');
  end if;
  perform pg_notify('tenantry_endings', 'probe ' || nonce);
  return '{}';
end
$$;
