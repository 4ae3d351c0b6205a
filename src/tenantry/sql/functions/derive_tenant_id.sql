-- A tenant's id, from instance and Clerk id alone, so that a replica can serve an organization before its row
-- arrives. Version 8 of RFC 9562: 122 bits of sha256.
create or replace function tenantry.derive_tenant_id(instance_id text, clerk_id text)
returns uuid language plpgsql immutable parallel safe as $$
declare
  digest bytea := substring(sha256(convert_to(coalesce(instance_id, '') || ':' || clerk_id, 'UTF8')) for 16);
begin
  digest := set_byte(digest, 6, (get_byte(digest, 6) & 15) | 128);
  digest := set_byte(digest, 8, (get_byte(digest, 8) & 63) | 128);
  return encode(digest, 'hex')::uuid;
end
$$;
