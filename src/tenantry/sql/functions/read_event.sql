-- What an event of Clerk tells of its object, as snapshots. Tolerant: only the ids it needs are required (TY010 without
-- them). `kind`: the type's, see kind_of_event; `observed_at`: Clerk's clock when the event was true.
create or replace function tenantry.read_event(type text, kind text, object jsonb, observed_at timestamptz)
returns tenantry.snapshots language plpgsql stable as $$
declare
  verb constant text := split_part(type, '.', 2);
  id   constant text := tenantry.clerk_text(object, 'id');
  s    tenantry.snapshots;
begin
  if id is null then
    perform tenantry.raise_error('TY010', format('%s carries no id', type));
  elsif verb = 'deleted' and (kind <> 'memberships' or tenantry.organization_of(object) is null or tenantry.user_of(object) is null) then
    s := tenantry.read_endings(kind, array[id], observed_at, true);
  else
    s := tenantry.read_objects(kind, array[object], observed_at, verb);
    if verb = 'deleted' then
      -- The one deletion that shows the whole object, as it was.
      s.memberships[1].deleted_at := observed_at;
    end if;
  end if;
  s.firm := true;
  return s;
end
$$;
