-- Notifies those who LISTEN on `tenantry_endings` of these ids of Clerk's, or of `*`. Anybody may listen, inside a tenant
-- too, so that an id goes out as its sha256: who knows it already recognises it, nobody else learns it.
create or replace function tenantry.tell_endings(subjects text[])
returns void language plpgsql as $$
begin
  perform pg_notify('tenantry_endings', case subject when '*' then subject else encode(sha256(convert_to(subject, 'UTF8')), 'hex') end)
  from unnest(subjects) as subject;
end
$$;
