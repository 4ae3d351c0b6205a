-- Refuses (TY030) whoever is not the owner of a table, for definer functions: within them the caller is known by the
-- session alone. Of a table that is gone anybody may speak.
create or replace function tenantry.refuse_stranger(relation regclass)
returns void language plpgsql stable as $$
declare
  caller constant name := case current_setting('role') when 'none' then session_user else current_setting('role') end;
  owner  constant oid := (select c.relowner from pg_class as c where c.oid = relation);
begin
  if not pg_has_role(caller, owner, 'usage') then
    perform tenantry.raise_error('TY030', format('%s belongs to %I: only its owner may do this, and you are %I', relation, pg_get_userbyid(owner), caller));
  end if;
end
$$;
