-- Merges a snapshot into the row it is written over. The only place that decides what wins; every mirrored table has
-- it as its BEFORE UPDATE trigger, so that no statement can undo a newer snapshot. Commutative, associative,
-- idempotent: each register is a maximum, and the content is that of the greatest (revision, observed_at, hash).
-- A doubt ends with a newer revision, or where Clerk was asked after both snapshots that disagree.
create or replace function tenantry.keep_newest_snapshot()
returns trigger language plpgsql as $$
declare
  seen    constant timestamptz := greatest(old.last_seen, new.last_seen);
  absent  constant timestamptz := greatest(old.last_absent, new.last_absent);
  deleted constant timestamptz := greatest(old.deleted_at, new.deleted_at);
  asked   constant boolean := new.observed_at > old.observed_at and tenantry.current_cause() = 'reconcile';
  doubt   constant boolean :=
    case when old.revision < new.revision or (old.revision = new.revision and asked) then new.needs_refetch
         when old.revision > new.revision then old.needs_refetch
         else old.needs_refetch or new.needs_refetch or (old.revision > 0 and old.content_hash <> new.content_hash)
    end;
  -- Not every snapshot of these names its organization.
  may_lack_place constant boolean := tg_table_name in ('invitations', 'domains');
  place   uuid;
begin
  if may_lack_place then
    place := coalesce(new.tenant_id, old.tenant_id);
  end if;
  if (old.revision, old.observed_at, old.content_hash) > (new.revision, new.observed_at, new.content_hash) then
    new := old;
  end if;
  if may_lack_place then
    new.tenant_id := place;
  end if;
  new.last_seen := seen;
  new.last_absent := absent;
  new.deleted_at := deleted;
  new.needs_refetch := doubt;
  return new;
end
$$;
