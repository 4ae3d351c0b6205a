-- A role's key with exactly one `org:`: legacy instances and tokens leave it out.
create or replace function tenantry.role_key(role text)
returns text language sql immutable parallel safe as $$
  select 'org:' || regexp_replace(nullif(role, ''), '^(org:)+', '')
$$;
