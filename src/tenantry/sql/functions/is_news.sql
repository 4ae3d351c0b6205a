-- Whether merging a snapshot into a row would change it, so that an unchanged row is neither written nor locked.
-- A sighting of what is known and live is news only where `firm`: the object's own event, which saw it when it was
-- observed. Parents and pages repeat themselves; but a page settles a doubt.
create or replace function tenantry.is_news(
  known_revision bigint, known_observed_at timestamptz, known_hash bigint, known_in_doubt boolean,
  known_seen timestamptz, known_absent timestamptz, known_deleted timestamptz,
  new_revision bigint, new_observed_at timestamptz, new_hash bigint,
  new_seen timestamptz, new_absent timestamptz, new_deleted timestamptz, firm boolean
) returns boolean language plpgsql immutable parallel safe as $$
begin
  -- One thing at a time: an expression is prepared anew in every transaction, whole.
  if (new_revision, new_hash) <> (known_revision, known_hash)
     and ((new_revision, new_observed_at, new_hash) > (known_revision, known_observed_at, known_hash)
          or (new_revision = known_revision and new_revision > 0 and not known_in_doubt)) then
    return true;
  elsif known_in_doubt and not firm and new_revision = known_revision and new_observed_at > known_observed_at then
    return true;
  elsif new_deleted > coalesce(known_deleted, '-infinity') or new_absent > coalesce(known_absent, '-infinity') then
    return true;
  end if;
  return coalesce(
    ((firm and new_seen = new_observed_at) or known_absent is not null) and new_seen > coalesce(known_seen, '-infinity'), false);
end
$$;
