-- What the steps of a script call, gone with its session. They pass over steps that are in the wanted state already.
create or replace procedure pg_temp.adopt_note(nth integer, wanted text, milliseconds double precision default null)
language plpgsql as $$
begin
  update tenantry_adopt.steps
  set state = wanted, held_ms = greatest(held_ms, milliseconds), ended_at = clock_timestamp(),
    leaf = case when wanted <> 'pending' then leaf end, page = case when wanted <> 'pending' then page else 0 end
  where position = nth;
end
$$;

-- How long to wait after an attempt that got no lock; past the patience the error goes on to the client.
create or replace function pg_temp.adopt_pause(begun timestamptz, attempt integer) returns double precision
language plpgsql as $$
begin
  if clock_timestamp() > begun + current_setting('tenantry_adopt.patience')::interval then
    return null;
  end if;
  return least(1, 0.02 * 1.6 ^ least(attempt, 20)) * (0.5 + random());
end
$$;

-- All statements in one transaction, once the locks are got; only the record where the table is gone. First, patiently,
-- the lock that keeps vacuum off the guards, then, for a moment, what the statements need.
create or replace procedure pg_temp.adopt_together(
  nth integer, wanted text, place text, guards text[], patient boolean, quiet boolean, statements text[]
) language plpgsql as $$
declare
  begun   constant timestamptz := clock_timestamp();
  began   timestamptz;
  pause   double precision;
  attempt integer := 0;
  each    text;
begin
  loop
    attempt := attempt + 1;
    begin
      if exists (select from tenantry_adopt.steps as s where s.position = nth and s.state = wanted) then
        return;
      end if;
      if place = '' or to_regclass(place) is not null then
        set local lock_timeout = '3s';
        foreach each in array guards loop
          if to_regclass(each) is not null then
            execute format('lock table %s in share update exclusive mode', each);
          end if;
        end loop;
        if not patient then
          perform set_config('lock_timeout', current_setting('tenantry_adopt.lock_timeout'), true);
        end if;
        if quiet then
          set local session_replication_role = replica;
        end if;
        began := clock_timestamp();
        foreach each in array statements loop
          begin
            execute each;
          exception when undefined_table or undefined_object or undefined_column or invalid_schema_name then
            if wanted = 'done' then
              raise;
            end if;  -- what is not there any more needs no undoing
          end;
        end loop;
      end if;
      call pg_temp.adopt_note(nth, wanted,
        case when wanted = 'done' then 1000 * extract(epoch from clock_timestamp() - began)::double precision end);
      return;
    exception when lock_not_available or deadlock_detected then
      pause := pg_temp.adopt_pause(begun, attempt);
      if pause is null then
        raise;
      end if;
    end;
    commit;
    perform pg_sleep(pause);
  end loop;
end
$$;

-- The statement for ranges of the places' pages, a transaction each, which give way where somebody holds a row.
create or replace procedure pg_temp.adopt_batches(nth integer, places text[], quiet boolean, statements text[])
language plpgsql as $$
declare
  wanted  constant double precision := current_setting('tenantry_adopt.batch_ms')::double precision / 1000;
  begun   timestamptz := clock_timestamp();
  began   timestamptz;
  seconds double precision;
  pause   double precision;
  entry   record;
  place   text;
  each    text;
  start   bigint;
  pages   bigint;
  size    bigint := 32;
  number  bigint;
  written bigint;
  attempt integer := 0;
begin
  select s.leaf, s.page, s.state into entry from tenantry_adopt.steps as s where s.position = nth;
  if entry.state = 'done' then
    return;
  end if;
  foreach place in array places[coalesce(array_position(places, entry.leaf), 1):] loop
    start := case when place = entry.leaf then entry.page else 0 end;
    pages := coalesce(pg_relation_size(to_regclass(place)), 0) / current_setting('block_size')::bigint;
    while start < pages loop
      began := clock_timestamp();
      begin
        perform set_config('lock_timeout', current_setting('tenantry_adopt.lock_timeout'), true);
        set local enable_hashjoin = off;  -- row by row, by its owner's key: a batch is small
        set local enable_mergejoin = off;
        set local enable_seqscan = off;
        set local jit = off;
        if quiet then
          set local session_replication_role = replica;
        end if;
        written := 0;
        foreach each in array statements loop
          execute replace(replace(replace(each, '{leaf}', place),
            '{first}', start::text), '{last}', (start + size)::text);
          get diagnostics number = row_count;
          written := written + number;
        end loop;
        seconds := extract(epoch from clock_timestamp() - began);
        update tenantry_adopt.steps as s
        set state = 'running', leaf = place, page = start + size, rows = rows + written,
          held_ms = greatest(held_ms, 1000 * seconds)
        where s.position = nth;
        start := start + size;
        size := greatest(1, least(8192, round(size * least(1.5, greatest(0.25, wanted / greatest(0.0005, seconds))))));
        attempt := 0;
      exception when lock_not_available or deadlock_detected then
        attempt := attempt + 1;
        pause := pg_temp.adopt_pause(begun, attempt);
        if pause is null then
          raise;
        end if;
      end;
      commit;
      if attempt = 0 then
        begun := clock_timestamp();
        perform pg_sleep(seconds * current_setting('tenantry_adopt.rest')::double precision);
      else
        size := greatest(1, size / 2);
        perform pg_sleep(pause);
      end if;
    end loop;
  end loop;
  call pg_temp.adopt_note(nth, 'done');
end
$$;

-- A query whose count must be 0.
create or replace procedure pg_temp.adopt_check(nth integer, query text, problem text) language plpgsql as $$
declare
  number bigint;
begin
  if exists (select from tenantry_adopt.steps as s where s.position = nth and s.state = 'done') then
    return;
  end if;
  execute query into number;
  if number > 0 then
    raise exception using message = replace(problem, '{count}', number::text),
      hint = 'What was done before stays: run it again then.';
  end if;
  call pg_temp.adopt_note(nth, 'done');
end
$$;

-- Queries whose counts must be 0 before isolation hides the rows.
create or replace procedure pg_temp.adopt_examine(across boolean, queries text[], problems text[])
language plpgsql as $$
declare
  told   text[] := '{}';
  number bigint;
begin
  if not exists (select from tenantry_adopt.steps as s where s.step ->> 'phase' = 'isolate' and s.state <> 'done') then
    return;
  end if;
  if across then
    perform tenantry.bypass_tenant_v1('adopt verify');
  end if;
  for i in 1 .. cardinality(queries) loop
    execute queries[i] into number;
    if number > 0 then
      told := told || replace(problems[i], '{count}', number::text);
    end if;
  end loop;
  if cardinality(told) > 0 then
    raise exception 'This is in the way:' using detail = array_to_string(told, chr(10)),
      hint = 'Run `tenantry adopt verify`, and mend the rows; or, where they are right, print this with --differing.';
  end if;
end
$$;

-- Begins the record, with rows and checksums as they are now; where there is one, it has to be of the same steps.
-- `columns` are JSON, by table, `sums` the queries of rows and checksum, to which a range of pages is added; without
-- `sums` no row is read. `settings` go before each, `make` and `move` write it all down, `move` given what was before.
create or replace procedure pg_temp.adopt_begin(
  make text, move text, steps jsonb, settings text, tables text[], columns text[], sums text[]
) language plpgsql as $$
declare
  before   jsonb := '{}';
  other    boolean;
  pages    bigint;
  start    bigint;
  part     record;
  number   bigint;
  checksum numeric;
begin
  if to_regclass('tenantry_adopt.steps') is not null then
    select coalesce(bool_or(s.step is distinct from t.step), true) into other
    from jsonb_array_elements(steps) with ordinality as t (step, position)
      full join tenantry_adopt.steps as s on s.position = t.position;
    if other then
      raise exception 'Another move has begun here than this script is of.'
        using hint = 'Print it again: `tenantry adopt apply --sql`.';
    end if;
    return;
  end if;
  for i in 1 .. cardinality(tables) loop
    number := case when cardinality(sums) > 0 then 0 end;
    checksum := number;
    pages := (select coalesce(max(pg_relation_size(p)), 0) / current_setting('block_size')::bigint
              from unnest(tables[i]::regclass || tenantry.partitions_of(tables[i]::regclass)) as p);
    start := 0;
    while number is not null and (start = 0 or start < pages) loop  -- a transaction each
      execute settings;
      set local enable_seqscan = off;
      execute concat(sums[i], ' where ', format('t.ctid >= ''(%s,0)''::tid', start),
        case when start + 8192 < pages then format(' and t.ctid < ''(%s,0)''::tid', start + 8192) end) into part;
      number := number + part.count;
      checksum := checksum + part.coalesce;
      start := start + 8192;
      commit;
    end loop;
    before := before || jsonb_build_object(tables[i],
      jsonb_build_object('columns', columns[i]::jsonb, 'rows', number, 'checksum', checksum::text));
  end loop;
  execute make;
  execute move using before;
  insert into tenantry_adopt.steps (position, step)
  select t.position, t.step from jsonb_array_elements(steps) with ordinality as t (step, position);
end
$$;

-- Writes down what has been added to the plan, unless it is there already; triggers know it from then on, and the
-- backfill begins anew.
create or replace procedure pg_temp.adopt_add(plan jsonb, known jsonb, new_plan jsonb, new_known jsonb, statements text[])
language plpgsql as $$
declare
  kept record;
  each text;
begin
  select m.plan, m.known into kept from tenantry_adopt.moves as m;
  if (kept.plan, kept.known) = (new_plan, new_known) then
    return;
  elsif (kept.plan, kept.known) <> (plan, known) then
    raise exception 'More has been added to the plan since this script was printed.'
      using hint = 'Print it again: `tenantry adopt apply --sql`.';
  end if;
  foreach each in array statements loop
    execute each;
  end loop;
  update tenantry_adopt.moves as m set plan = new_plan, known = new_known;
  update tenantry_adopt.steps as s set state = 'pending', leaf = null, page = 0 where s.step ->> 'phase' = 'backfill';
end
$$;

-- Waits for transactions to end that are open now: who knows less may be writing rows yet. Not once there is no need.
create or replace procedure pg_temp.adopt_outlast() language plpgsql as $$
declare
  begun constant timestamptz := clock_timestamp();
  open  text[];
  now   text[];
begin
  if not exists (select from tenantry_adopt.steps as s where s.step ->> 'phase' = 'backfill' and s.state = 'pending') then
    return;
  end if;
  loop
    now := array(
      select l.virtualxid from pg_locks as l join pg_stat_activity as a on a.pid = l.pid
      where l.locktype = 'virtualxid' and l.virtualxid = l.virtualtransaction
        and a.datname = current_database() and a.usesysid is not null and l.pid <> pg_backend_pid());
    open := array(select unnest(coalesce(open, now)) intersect select unnest(now));
    exit when cardinality(open) = 0;
    if clock_timestamp() > begun + current_setting('tenantry_adopt.patience')::interval then
      raise exception 'Transactions that were open % ago are so still, and may write rows of before.',
        current_setting('tenantry_adopt.patience') using hint = 'End them, or wait; then run it again: it goes on here.';
    end if;
    commit;
    perform pg_sleep(0.05);
  end loop;
end
$$;

-- Stops where partitions came since the script was printed.
create or replace procedure pg_temp.adopt_partitions(nth integer, wanted text, place text, known text[])
language plpgsql as $$
declare
  added text;
begin
  if exists (select from tenantry_adopt.steps as s where s.position = nth and s.state = wanted) then
    return;
  end if;
  select string_agg(format('%I.%I', n.nspname, c.relname), ', ') into added
  from pg_inherits as h join pg_class as c on c.oid = h.inhrelid join pg_namespace as n on n.oid = c.relnamespace
  where h.inhparent = to_regclass(place) and format('%I.%I', n.nspname, c.relname) <> all (known);
  if added is not null then
    raise exception '% came since this script was printed.', added
      using hint = 'Go on with `tenantry adopt apply`, or undo, which know what to do about them.';
  end if;
  call pg_temp.adopt_note(nth, wanted);
end
$$;

-- What is undone has to be what was done, and no more, and nothing may watch the tables; `others` are not undone here.
create or replace procedure pg_temp.adopt_expect(others integer[], policy text) language plpgsql as $$
begin
  if to_regclass('tenantry_adopt.steps') is null then
    raise exception 'No move has begun here: there is nothing to undo.';
  elsif exists (select from tenantry_adopt.steps as s where s.position = any (others) and s.state <> 'pending') then
    raise exception 'More has been done since this script was printed.'
      using hint = 'Print it again: `tenantry adopt undo --sql`.';
  elsif exists (select from pg_policy as p where p.polname = policy) then
    raise exception 'A report watches the tables.' using hint = 'Run `tenantry adopt report --off` first.';
  end if;
end
$$;

-- One move at a time.
create or replace procedure pg_temp.adopt_lock(number bigint) language plpgsql as $$
begin
  set local lock_timeout = '15s';
  perform pg_advisory_lock(number);
exception when lock_not_available then
  raise exception 'Another `tenantry adopt` is at work on this database.' using hint = 'Wait for it to end.';
end
$$;

-- Whether the script goes as far as a phase; `phases` are those that it has.
create or replace function pg_temp.adopt_reaches(phase text, last text, phases text[]) returns boolean
language plpgsql as $$
begin
  if last <> all (phases) then
    raise exception '% is no phase of this script.', last
      using hint = 'They are ' || array_to_string(phases, ', ') || '.';
  end if;
  return array_position(phases, phase) <= array_position(phases, last);
end
$$;
