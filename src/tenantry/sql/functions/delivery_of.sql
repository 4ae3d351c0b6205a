-- The delivery that told about the first of these objects that any told about, or null: see state_cause.
create or replace function tenantry.delivery_of(variadic ids text[])
returns text language plpgsql stable as $$
declare
  deliveries constant jsonb := nullif(current_setting('tenantry.deliveries', true), '');
  id text;
begin
  foreach id in array ids loop
    if deliveries ? id then
      return deliveries ->> id;
    end if;
  end loop;
  return null;
end
$$;
