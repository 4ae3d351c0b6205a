-- Where the objects of a kind are kept; TY010 for what is no kind of Clerk's listings.
create or replace function tenantry.mirrored_table(kind text)
returns regclass language plpgsql stable as $$
declare
  name constant text := case when kind in ('users', 'invitations', 'domains', 'roles', 'permissions') then kind
    when kind = 'organizations' then 'tenants' when kind = 'memberships' then 'tenant_memberships' end;
begin
  if name is null then
    perform tenantry.raise_error('TY010', format('unknown kind %L', kind));
  end if;
  return format('tenantry.%I', name)::regclass;
end
$$;
