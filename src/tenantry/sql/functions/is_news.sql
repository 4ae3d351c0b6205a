-- Whether merging a snapshot into a row would change it, so that an unchanged row is neither written nor locked.
-- A sighting of what is known and live is news only where `firm`: the object's own event, which saw it when it was
-- observed. Parents and pages repeat themselves; but a page settles a doubt.
create or replace function tenantry.is_news(known anyelement, shown anyelement, firm boolean)
returns boolean language plpgsql stable as $$
declare
  revision    constant bigint := coalesce(shown.revision, 0);
  hash        constant bigint := coalesce(shown.content_hash, 0);
  observed_at constant timestamptz := coalesce(shown.observed_at, '-infinity');
begin
  if (revision, hash) <> (known.revision, known.content_hash)
     and ((revision, observed_at, hash) > (known.revision, known.observed_at, known.content_hash)
          or (revision = known.revision and revision > 0 and not known.needs_refetch)) then
    return true;
  elsif known.needs_refetch and not firm and revision = known.revision and observed_at > known.observed_at then
    return true;
  elsif shown.deleted_at > coalesce(known.deleted_at, '-infinity') or shown.last_absent > coalesce(known.last_absent, '-infinity') then
    return true;
  end if;
  return coalesce(
    (known.last_absent is not null or (firm and shown.last_seen = observed_at)) and shown.last_seen > coalesce(known.last_seen, '-infinity'), false);
end
$$;
