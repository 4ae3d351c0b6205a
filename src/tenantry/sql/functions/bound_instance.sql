-- The Clerk instance this database mirrors, or null before the first event, page or token.
create or replace function tenantry.bound_instance()
returns text language plpgsql stable as $$
begin
  return (select instance_id from tenantry.clerk_instance);
end
$$;
