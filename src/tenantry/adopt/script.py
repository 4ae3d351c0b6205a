"""A move as a script for psql, which ends where `tenantry adopt apply` or `undo` would and keeps the same record.

Theory of operation.
- The script begins the record, or finds the one that is there to be of the same steps. It passes over steps that are
  done; so it may be run again, and the commands go on where it stopped, as it does where they stopped.
- A step in a transaction is a block, which tries again where it did not get its locks: see `runner`.
- What cannot be in a transaction stands by itself; what a broken attempt left is dropped first.
- Batches are one block that commits after each. No `statement_timeout` can end one: it counts from the block's begin.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import count, groupby
from typing import TYPE_CHECKING, Any

from tenantry.adopt import move, preflight, record, report, runner, verify
from tenantry.adopt.catalog import SCHEMA
from tenantry.adopt.names import literal
from tenantry.adopt.record import Entry, Move
from tenantry.adopt.runner import GUARD_MS, Pace
from tenantry.adopt.step import FIRST, LAST, LEAF, PHASES, Phase, Step
from tenantry.errors import AdoptionRefused
from tenantry.terminal import printable

if TYPE_CHECKING:
    import psycopg

    from tenantry.adopt.catalog import Schema, Table
    from tenantry.adopt.plan import Plan
    from tenantry.adopt.step import Known


def write_apply(
    connection: psycopg.Connection[Any],
    plan: Plan,
    last: Phase,
    until: Phase,
    pace: Pace,
    *,
    differing: bool = False,
) -> str:
    """What `move.apply` would do up to and with a phase, to be run up to `until` unless psql is told otherwise. Changes
    nothing. Raises AdoptionRefused as that does."""
    with move.as_owner(connection, plan) as schema:
        begun, entries = move.foresee(connection, plan, schema)
        before = [_measure(schema.tables[each.table]) for each in plan.decisions if each.table in schema.tables]
        checks = _examine(plan, schema, begun.known, differing=differing)
        owner = preflight.find_owner(connection, plan, schema)
    phases = PHASES[: PHASES.index(last) + 1]
    parts = [
        _HEAD_OF_APPLY.format(until=until, patience=f"{pace.patience:g}", lock_ms=pace.lock_ms),
        *_open(owner),
        _choose(phases, until),
        *_begin(begun, entries, before),
    ]
    for phase, found in groupby((e for e in entries if e.state != "done"), key=lambda entry: entry.step.phase):
        if phase not in phases:
            break
        steps = [_Block(entry, len(entries), pace) for entry in found]
        texts = [checks] if phase == "isolate" else []
        parts.append(_phase(phase, [*texts, *(_unless("done", step.entry, step.do()) for step in steps)]))
    return "\n".join([*parts, _CLOSE, "\\echo Done. Next: tenantry adopt verify"])


def write_undo(connection: psycopg.Connection[Any], first: Phase, pace: Pace) -> str:
    """What `move.undo` would do back to before a phase. Raises AdoptionRefused as that does."""
    owner, entries = record.owner(connection), move.read_progress(connection)
    if owner is None:
        raise AdoptionRefused("No move has begun here: there is nothing to undo.")
    runner.require_undoable(entries)
    found = [e for e in entries if e.state != "pending" and PHASES.index(e.step.phase) >= PHASES.index(first)]
    steps = [_Block(entry, len(entries), pace) for entry in reversed(found)]
    parts = [
        _HEAD_OF_UNDO.format(first=first, patience=f"{pace.patience:g}", lock_ms=pace.lock_ms),
        *_open(owner),
        _expect(entries, found, first),
        *(_unless("pending", step.entry, step.undo()) for step in steps),
        _FORGET,
    ]
    return "\n".join([*parts, _CLOSE, "\\echo Undone."])


def outline(step: Step) -> str:
    """A step's SQL for a person to read, and, as comments, how to undo it."""
    places = printable(", ".join(step.leaves))
    notes = {
        "together": "begin;",
        "batches": f"-- for pages {FIRST} to {LAST} of {places}, and so on, a transaction each:",
        "check": "-- must be 0:",
    }
    lines = [_heading(step), notes.get(step.how, ""), *(f"{statement};" for statement in step.sql)]
    lines += ["commit;"] if step.how == "together" else []
    return "\n".join(filter(None, [*lines, *_undo_notes(step)]))


_HEAD_OF_APPLY = """\
-- Moves tables behind tenant isolation, as `tenantry adopt apply` does. For psql, without --single-transaction:
--
--   psql -X -v ON_ERROR_STOP=1 -f FILE
--
-- It runs up to {until}; `-v to=PHASE` names another of its phases. Before isolate, deploy the app that sets a tenant
-- in each transaction. What contract drops cannot be brought back.
-- It is of the database, the users and the organizations that it was printed for: run it soon, and there.
-- Where it stops, run it again, or go on with `tenantry adopt apply`; status, verify and undo know what it did.
-- A step that does not get its locks within {lock_ms} ms lets the app pass and tries again, for {patience} s.
"""
_HEAD_OF_UNDO = """\
-- Undoes a move back to before {first}, as `tenantry adopt undo` does. For psql, without --single-transaction:
--
--   psql -X -v ON_ERROR_STOP=1 -f FILE
--
-- Where it stops, run it again, or go on with `tenantry adopt undo`.
-- A step that does not get its locks within {lock_ms} ms lets the app pass and tries again, for {patience} s.
"""
_CLOSE = f"""\
do $$ begin perform pg_advisory_unlock({record.LOCK}); end $$;
reset role;"""
_FORGET = f"""\
do $$ begin
  if not exists (select from {SCHEMA}.steps where state <> 'pending') then
    drop schema {SCHEMA} cascade;
  end if;
end $$;
"""
_CONFLICTS = "#variable_conflict use_column"  # no name in a block is in the way of one in the app's tables


# --- the head ---------------------------------------------------------------------------------------------------------


def _open(owner: str) -> Iterator[str]:
    """The session of who owns the tables, the only one at work."""
    yield "\\set ON_ERROR_STOP on\n\\set AUTOCOMMIT on\n\\set QUIET on\n\\encoding UTF8"
    yield "".join(f"{statement};\n" for statement in runner.preparations(owner))
    yield f"""\
do $$ begin
  set lock_timeout = '15s';
  perform pg_advisory_lock({record.LOCK});
  set lock_timeout = 0;
exception when lock_not_available then
  raise exception 'Another `tenantry adopt` is at work on this database.' using hint = 'Wait for it to end.';
end $$;
"""


def _choose(phases: Sequence[Phase], until: Phase) -> str:
    """Up to which phase it runs, as `:to` has it."""
    return f"""\
\\if :{{?to}}
\\else
\\set to {until}
\\endif
select set_config('tenantry_adopt.to', :'to', false) as "to" \\gset
do $$ begin
  if current_setting('tenantry_adopt.to') <> all (array[{_listed(phases)}]) then
    raise exception '% is no phase of this script.', current_setting('tenantry_adopt.to')
      using hint = 'They are {", ".join(phases)}.';
  end if;
end $$;
"""


def _begin(begun: Move, entries: Sequence[Entry], before: Sequence[str]) -> Iterator[str]:
    """The record, with rows and checksums of now; where there is one, it has to be of the same steps."""
    steps = ",\n".join(json.dumps(asdict(entry.step)) for entry in entries)
    measured = "\n".join(f"    measured := measured || (\n{_indent(query, 6)});\n    commit;" for query in before)
    yield "\\echo 'the record'"
    yield "".join(f"set {name} = {value};\n" for name, value in verify.READING.items())
    block = f"""\
{_CONFLICTS}
declare
  told     constant jsonb := {_quoted(chr(10) + "[" + steps + "]", "json")};
  measured jsonb := '{{}}';
begin
  if to_regclass('{SCHEMA}.steps') is null then
{measured}
{record.MAKE.strip()}
    insert into {SCHEMA}.moves (plan, known, before)
    values ({literal(begun.plan)}, {_quoted(json.dumps(asdict(begun.known)), "json")}, measured);
    insert into {SCHEMA}.steps (position, step)
    select t.position, t.step from jsonb_array_elements(told) with ordinality as t(step, position);
  elsif (select m.plan from {SCHEMA}.moves as m) <> {literal(begun.plan)} or exists (
    select from jsonb_array_elements(told) with ordinality as t(step, position)
      full join {SCHEMA}.steps as s on s.position = t.position where s.step is distinct from t.step) then
    raise exception 'Another move has begun here than this script is of.'
      using hint = 'Print it again: `tenantry adopt apply --sql`.';
  end if;
end"""
    yield _do(block)
    yield "".join(f"reset {name};\n" for name in verify.READING)


def _expect(entries: Sequence[Entry], found: Sequence[Entry], first: Phase) -> str:
    """What is undone has to be what was done: nothing more, and nothing that watches the tables."""
    later = [str(entry.position) for entry in entries if PHASES.index(entry.step.phase) >= PHASES.index(first)]
    more = sorted(set(later) - {str(entry.position) for entry in found}, key=int)
    undone = f"position = any (array[{', '.join(more)}]::integer[])"
    return _do(
        f"""\
begin
  if to_regclass('{SCHEMA}.steps') is null then
    raise exception 'No move has begun here: there is nothing to undo.';
  elsif exists (select from {SCHEMA}.steps where {undone} and state <> 'pending') then
    raise exception 'More has been done since this script was printed.'
      using hint = 'Print it again: `tenantry adopt undo --sql`.';
  elsif exists (select from pg_policy where polname = {literal(report.POLICY)}) then
    raise exception 'A report watches the tables.' using hint = 'Run `tenantry adopt report --off` first.';
  end if;
end"""
    )


def _phase(phase: Phase, texts: Sequence[str]) -> str:
    wanted = f"select array_position(array[{_listed(PHASES)}], :'to') >= {1 + PHASES.index(phase)} as wanted \\gset"
    return "\n".join([f"-- === {phase} ===\n\n{wanted}\n\\if :wanted\n", *texts, "\\endif\n"])


def _examine(plan: Plan, schema: Schema, known: Known, *, differing: bool) -> str:
    """What `preflight.examine_rows` looks for: what must hold of the rows before isolation hides them."""
    looks = [_look(query, problem) for query, problem in preflight.column_checks(plan, schema)]
    if not differing:
        looks.append("  perform tenantry.bypass_tenant_v1('adopt verify');\n")
        for table, query in verify.differing(plan, schema, known):
            looks.append(_look(query, f"{table}: {{count}} rows have another tenant than their owner."))
    if not looks:
        return ""
    left = f"select exists (select from {SCHEMA}.steps where step ->> 'phase' = 'isolate' and state <> 'done') as todo"
    block = f"""\
{_CONFLICTS}
declare
  number bigint;
  told   text[] := '{{}}';
begin
{"".join(looks)}\
  if cardinality(told) > 0 then
    raise exception 'This is in the way:' using detail = array_to_string(told, chr(10)),
      hint = 'Run `tenantry adopt verify`. Mend the rows; or, where they are right, print this with --differing.';
  end if;
end"""
    return f"\\echo 'the rows before isolation'\n{left} \\gset\n\\if :todo\n{_do(block)}\\endif\n"


def _look(query: str, problem: str) -> str:
    told = f"replace({literal(problem)}, '{{count}}', number::text)"
    return f"  number := (\n{_indent(query, 4)});\n  if number > 0 then\n    told := told || {told};\n  end if;\n"


def _measure(table: Table) -> str:
    """One table's entry in what the record keeps of before."""
    columns = [column.name for column in table.columns]
    told = f"'columns', {literal(json.dumps(columns))}::jsonb, 'rows', m.rows, 'checksum', m.checksum"
    query = f"select jsonb_build_object({literal(table.name)}, jsonb_build_object({told}))"
    return f"{query}\nfrom ({verify.checksum(table.name, columns)}) as m (rows, checksum)"


# --- a step -----------------------------------------------------------------------------------------------------------


def _unless(state: str, entry: Entry, text: str) -> str:
    """What is left to do of a step, which is nothing where it is in that state."""
    query = f"select state <> '{state}' as todo from {SCHEMA}.steps where position = {entry.position} \\gset"
    return f"{text.partition(chr(10))[0]}\n{query}\n\\if :todo\n{text.partition(chr(10))[2]}\\endif\n"


class _Block:
    """A step's text, whose first line says which it is."""

    def __init__(self, entry: Entry, total: int, pace: Pace) -> None:
        self.entry = entry
        self._step = entry.step
        self._total = total
        self._pace = pace

    def do(self) -> str:
        how = {"check": self._check, "batches": self._batches, "alone": self._alone, "together": self._together}
        notes = "".join(f"{line}\n" for line in _undo_notes(self._step))
        return f"{self._echo()}\n{_heading(self._step)}\n{how[self._step.how]()}{notes}"

    def undo(self) -> str:
        step = self._step
        if step.undo_alone:
            sql = "".join(f"{statement};\n" for statement in step.undo)
            return f"{self._echo('undo ')}\nset lock_timeout = 0;\n{sql}{self._note('pending')};\n"
        there = f"to_regclass({literal(step.table)}) is not null" if step.table else ""
        return f"{self._echo('undo ')}\n{self._transaction(step.undo, 'pending', there)}"

    def _echo(self, verb: str = "") -> str:
        step = self._step
        told = printable(f"[{self.entry.position}/{self._total}] {verb}{step.phase}: {step.name}")
        return "\\echo '" + told.replace("\\", "\\\\").replace("'", "''") + "'"

    def _note(self, state: str, held_ms: str = "null") -> str:
        back = ", leaf = null, page = 0" if state == "pending" else ""
        sets = f"state = '{state}', held_ms = greatest(held_ms, {held_ms}), ended_at = clock_timestamp(){back}"
        return f"update {SCHEMA}.steps set {sets} where position = {self.entry.position}"

    # together

    def _together(self) -> str:
        return self._transaction(self._step.sql, "done", "")

    def _transaction(self, statements: Sequence[str], state: str, there: str) -> str:
        """All statements and the record, once the locks are got; only the record where the table is not there."""
        step = self._step
        impatient = step.lock != "SHARE UPDATE EXCLUSIVE"
        work = [f"set local lock_timeout = '{GUARD_MS}ms'"] if step.guards else []
        work += [f"lock table {table} in share update exclusive mode" for table in step.guards]
        work.append(f"set local lock_timeout = '{self._pace.lock_ms if impatient else GUARD_MS}ms'")
        work += ["set local session_replication_role = replica"] if step.quiet else []
        work += ["began := clock_timestamp()", *map(_inside, statements)]
        lines = "".join(f"{_indent(line, 6)};\n" for line in work)
        if there:
            lines = f"      if {there} then\n{lines}      end if;\n"
        held = "1000 * extract(epoch from clock_timestamp() - began)" if state == "done" else "null"
        return _do(
            f"""\
{_CONFLICTS}
declare
  begun constant timestamptz := clock_timestamp();
  began timestamptz;
  pause double precision := 0.02;
begin
  loop
    begin
{lines}\
      {self._note(state, held)};
      return;
    exception when lock_not_available or deadlock_detected then
      {self._give_up()}
    end;
    commit;
    perform pg_sleep(pause * (0.5 + random()));
    pause := least(1, pause * 1.6);
  end loop;
end"""
        )

    def _give_up(self) -> str:
        return f"if clock_timestamp() > begun + interval '{self._pace.patience:g} s' then raise; end if;"

    # outside a transaction

    def _alone(self) -> str:
        step = self._step
        broken = ""
        if step.index:
            broken = (
                "select exists (select from pg_index\n"
                f"  where indexrelid = to_regclass({literal(step.index)}) and not indisvalid) as broken \\gset\n"
                f"\\if :broken\ndrop index concurrently if exists {step.index};\n\\endif\n"
            )
        sql = "".join(f"{statement};\n" for statement in step.sql)
        running = f"update {SCHEMA}.steps set state = 'running' where position = {self.entry.position}"
        return f"{running};\nset lock_timeout = 0;\n{broken}{sql}{self._note('done')};\n"

    # in batches

    def _batches(self) -> str:
        step, pace = self._step, self._pace
        quiet = "\n        set local session_replication_role = replica;" if step.quiet else ""
        statements = "\n".join(
            f"        execute replace(replace(replace({_quoted(chr(10) + sql, 'sql')},\n"
            f"          '{LEAF}', place), '{FIRST}', first::text), '{LAST}', (first + size)::text);\n"
            f"        get diagnostics number = row_count;\n        written := written + number;"
            for sql in step.sql
        )
        return _do(
            f"""\
declare
  places  constant text[] := array[{_listed(step.leaves)}];
  begun   timestamptz := clock_timestamp();
  began   timestamptz;
  seconds double precision;
  entry   record;
  place   text;
  first   bigint;
  pages   bigint;
  size    bigint := {runner.FIRST_PAGES};
  taken   bigint;
  number  bigint;
  written bigint;
begin
  select s.leaf, s.page into entry from {SCHEMA}.steps as s where s.position = {self.entry.position};
  foreach place in array places[coalesce(array_position(places, entry.leaf), 1):] loop
    first := case when place = entry.leaf then entry.page else 0 end;
    pages := pg_relation_size(place::regclass) / current_setting('block_size')::bigint;
    while first < pages loop
      began := clock_timestamp();
      begin
        set local lock_timeout = '{pace.lock_ms}ms';{quiet}
        set local enable_hashjoin = off;
        set local enable_mergejoin = off;
        set local enable_seqscan = off;
        set local jit = off;
        set local synchronous_commit = off;
        written := 0;
{statements}
        seconds := extract(epoch from clock_timestamp() - began);
        update {SCHEMA}.steps as s
        set state = 'running', leaf = place, page = first + size, rows = rows + written,
          held_ms = greatest(held_ms, 1000 * seconds)
        where s.position = {self.entry.position};
        taken := size;
      exception when lock_not_available or deadlock_detected then
        {self._give_up()}
        taken := 0;
      end;
      commit;
      if taken = 0 then
        size := greatest(1, size / 2);
        perform pg_sleep(0.02 + random() / 10);
      else
        first := first + taken;
        size := greatest(1, least({runner.MOST_PAGES}, round(size
          * least(1.5, greatest(0.25, {pace.batch_ms} / greatest(0.5, 1000 * seconds))))::bigint));
        begun := clock_timestamp();
        perform pg_sleep(seconds * {pace.rest:g});
      end if;
    end loop;
  end loop;
  {self._note("done")};
end"""
        )

    def _check(self) -> str:
        step = self._step
        return _do(
            f"""\
{_CONFLICTS}
declare
  number bigint;
begin
  number := (
{_indent(step.sql[0], 4)});
  if number > 0 then
    raise exception using message = replace({literal(step.problem)}, '{{count}}', number::text),
      hint = 'What was done before stays: run it again then.';
  end if;
  {self._note("done")};
end"""
        )


# --- text -------------------------------------------------------------------------------------------------------------


def _heading(step: Step) -> str:
    lock = f" [{step.lock}]" if step.lock else ""
    return f"-- {printable(step.name)}{lock}, about {step.seconds:.0f} s"


def _undo_notes(step: Step) -> list[str]:
    undo = "\n".join(f"{statement};" for statement in step.undo)
    return [f"-- undo: {line}" for line in undo.splitlines()]


def _inside(statement: str) -> str:
    """A statement as it stands in a block."""
    return "perform " + statement.removeprefix("select ") if statement.startswith("select ") else statement


def _do(body: str) -> str:
    return f"do {_quoted(chr(10) + body + chr(10), 'step')};\n"


def _quoted(text: str, tag: str) -> str:
    """A text between dollars, with a tag that is not in it."""
    found = next(f"${tag}{n or ''}$" for n in count() if f"${tag}{n or ''}$" not in text)
    return f"{found}{text}{found}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(literal, names))


def _indent(text: str, spaces: int) -> str:
    """Moved to the right, but for lines that may be in the middle of a text or a name."""
    whole = not set(text) & set("'\"$")
    return "\n".join(" " * spaces + line if whole or not n else line for n, line in enumerate(text.split("\n")))
