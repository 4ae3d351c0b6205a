"""A move as a script for psql, which ends where `tenantry adopt apply` or `undo` would and keeps the same record.

Theory of operation.
- The script begins the record, or finds the one that is there to be of the same steps. It passes over steps that are
  done; so it may be run again, and the commands go on where it stopped, as it does where they stopped.
- What the runner does to a step, procedures of the session do: they wait for locks as briefly, as often, and commit
  after each batch. No `statement_timeout` can end a batch, since it counts from the call's begin.
- What was added to the plan of a move that had begun it takes up first, and then does the backfill once more.
- What cannot be in a transaction stands by itself; what a broken attempt left is dropped first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib import resources
from itertools import count, groupby
from typing import TYPE_CHECKING, Any

from tenantry.adopt import arrivals, move, owners, preflight, record, report, runner, verify, waiting
from tenantry.adopt.catalog import SCHEMA
from tenantry.adopt.names import literal
from tenantry.adopt.record import Entry, Move
from tenantry.adopt.runner import Pace
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
    checksums: bool = True,
) -> str:
    """What `move.apply` would do up to and with a phase, to be run up to `until` unless psql is told otherwise. Changes
    nothing. Raises AdoptionRefused as that does."""
    with move.as_owner(connection, plan) as schema:
        begun, entries = move.foresee(connection, plan, schema)
        now = begun
        if record.exists(connection) and waiting.is_open(plan, schema):
            now = replace(begun, plan=plan, known=arrivals.examine(connection, plan, schema)[1])
        if now != begun:
            entries = [_again(entry) for entry in entries]
        owner = preflight.find_owner(connection, plan, schema)
        checks = _examine(plan, schema, now.known, differing=differing)
        tables = [schema.tables[each.table] for each in plan.decisions if each.table in schema.tables]
    phases = PHASES[: PHASES.index(last) + 1]
    parts = [
        *_open(_HEAD_OF_APPLY.format(until=until), owner, pace),
        _choose(phases, until),
        *_begin(begun, entries, tables, checksums=checksums),
        *_add(begun, now),
    ]
    for phase, found in groupby((e for e in entries if e.state != "done"), key=lambda entry: entry.step.phase):
        if phase in phases:
            parts += [
                f"-- === {phase} ===\n",
                _reaches(phase, phases),
                "\\if :wanted\n",
                *([checks] if phase == "isolate" else []),
            ]
            parts += [*(_Block(entry, len(entries)).do() for entry in found), "\\endif\n"]
    return "\n".join([*parts, _FLUSH, *_CLOSE, "\\echo Done. Next: tenantry adopt verify"])


def write_undo(connection: psycopg.Connection[Any], first: Phase, pace: Pace) -> str:
    """What `move.undo` would do back to before a phase. Raises AdoptionRefused as that does."""
    owner, entries = record.owner(connection), move.read_progress(connection)
    if owner is None:
        raise AdoptionRefused("No move has begun here: there is nothing to undo.")
    runner.require_undoable(entries)
    later = [entry for entry in entries if PHASES.index(entry.step.phase) >= PHASES.index(first)]
    others = ", ".join(str(entry.position) for entry in later if entry.state == "pending")
    parts = [
        *_open(_HEAD_OF_UNDO.format(first=first), owner, pace),
        f"call pg_temp.adopt_expect(array[{others}]::integer[], {literal(report.POLICY)});\n",
        *(_Block(entry, len(entries)).undo() for entry in reversed(later) if entry.state != "pending"),
        f"select not exists (select from {SCHEMA}.steps where state <> 'pending') as over \\gset",
        f"{_FLUSH}\n\\if :over\ndrop schema {SCHEMA} cascade;\n\\endif\n",
    ]
    return "\n".join([*parts, *_CLOSE, "\\echo Undone."])


def outline(step: Step) -> str:
    """A step's SQL for a person to read, and, as comments, how to undo it."""
    places = printable(", ".join(step.leaves))
    notes = {
        "together": "begin;",
        "batches": f"-- for pages {FIRST} to {LAST} of {places}, and so on, a transaction each:",
        "check": "-- must be 0:",
    }
    if step.how == "partitions":  # nothing to run where none was added, or in the words of a table's own partitions
        told = "\n".join(f"{statement};" for part in step.parts for statement in part.sql)
        return "\n".join([f"{_heading(step)}, for each {LEAF} that came meanwhile:", *_comment("-- ", told)])
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
"""
_HEAD_OF_UNDO = """\
-- Undoes a move back to before {first}, as `tenantry adopt undo` does. For psql, without --single-transaction:
--
--   psql -X -v ON_ERROR_STOP=1 -f FILE
--
-- Where it stops, run it again, or go on with `tenantry adopt undo`.
"""
_PACE = """\
-- Who gets no lock for so long lets the app pass, and tries again with `patience`; about how long a batch takes, and
-- then rests, in batches:
set tenantry_adopt.lock_timeout = '{lock_ms}ms';
set tenantry_adopt.patience = '{patience:g}s';
set tenantry_adopt.batch_ms = '{batch_ms}';
set tenantry_adopt.rest = '{rest:g}';
"""
_FLUSH = f"set synchronous_commit to default;\nupdate {SCHEMA}.moves set plan = plan;"  # see `record.flush`
_CLOSE = (f"select pg_advisory_unlock({record.LOCK}) as unlocked \\gset", "reset role;")


# --- the head ---------------------------------------------------------------------------------------------------------


def _open(head: str, owner: str, pace: Pace) -> Iterator[str]:
    """The session of who owns the tables, the only one at work, and what the steps call."""
    yield head
    yield "\\set ON_ERROR_STOP on\n\\set AUTOCOMMIT on\n\\set QUIET on\n\\encoding UTF8"
    yield "".join(f"{statement};\n" for statement in runner.preparations(owner))
    yield _PACE.format(**asdict(pace))
    yield resources.files("tenantry.adopt").joinpath("sql", "script.sql").read_text(encoding="utf-8")
    yield f"call pg_temp.adopt_lock({record.LOCK});\n"


def _choose(phases: Sequence[Phase], until: Phase) -> str:
    """Up to which phase it runs, as `:to` has it."""
    return f"\\if :{{?to}}\n\\else\n\\set to {until}\n\\endif\n{_reaches(phases[0], phases)}\n"


def _reaches(phase: Phase, phases: Sequence[Phase]) -> str:
    return f"select pg_temp.adopt_reaches('{phase}', :'to', {_array(map(literal, phases))}) as wanted \\gset"


def _begin(begun: Move, entries: Sequence[Entry], tables: Sequence[Table], *, checksums: bool) -> Iterator[str]:
    """The record of the move."""
    told = {name: _quoted(text, "json") for name, text in record.tell(begun).items()} | {"before": "$1"}
    insert = f"insert into {SCHEMA}.moves ({', '.join(told)})\nvalues ({', '.join(told.values())})"
    steps = ",\n".join(json.dumps(asdict(entry.step)) for entry in entries)
    columns = {table.name: [column.name for column in table.columns] for table in tables}
    sums = [verify.add_up(table, named) for table, named in columns.items()] if checksums else []
    names, lists = _array(map(literal, columns)), _array(literal(json.dumps(named)) for named in columns.values())
    yield "\\echo 'the record'"
    yield f"call pg_temp.adopt_begin({_quoted(record.MAKE)}, {_quoted(insert)}, {_quoted(f'[{steps}]', 'json')},"
    yield f"{_quoted(verify.SETTINGS)}, {names}, {lists}, {_texts(sums)});\n"


def _add(begun: Move, now: Move) -> Iterator[str]:
    """What has been added to the plan since the move began, for which the backfill is done once more."""
    if now != begun:
        lines = now.known.given[len(begun.known.given) :]
        told = [_quoted(record.tell(each)[name], "json") for each in (begun, now) for name in ("plan", "known")]
        yield "\\echo 'what is new in the plan'"
        yield f"call pg_temp.adopt_add({', '.join(told)}, {_texts(list(owners.give(lines)))});"
        yield "call pg_temp.adopt_outlast();\n"


def _again(entry: Entry) -> Entry:
    return replace(entry, state="pending") if entry.step.phase == "backfill" else entry


def _examine(plan: Plan, schema: Schema, known: Known, *, differing: bool) -> str:
    """What `preflight.examine_rows` looks for: what must hold of the rows before isolation hides them."""
    calls = [_look(False, list(preflight.column_checks(plan, schema)))]
    if not differing:
        problem = "{table}: {{count}} rows have another tenant than their owner."
        found = verify.differing(plan, schema, known)
        calls.append(_look(True, [(query, problem.format(table=table)) for table, query in found]))
    return "\n".join(["\\echo 'the rows before isolation'", *calls, ""])


def _look(across: bool, checks: Sequence[tuple[str, str]]) -> str:
    queries, problems = _texts([query for query, _ in checks]), _array(literal(problem) for _, problem in checks)
    return f"call pg_temp.adopt_examine({_boolean(across)}, {queries}, {problems});"


# --- a step -----------------------------------------------------------------------------------------------------------


class _Block:
    """A step's text, whose first line says which it is."""

    def __init__(self, entry: Entry, total: int) -> None:
        self._entry = entry
        self._step = entry.step
        self._total = total

    def do(self) -> str:
        how = {
            "check": self._check,
            "batches": self._batches,
            "alone": self._alone,
            "together": self._together,
            "partitions": self._partitions,
        }
        lines = [self._echo(), _heading(self._step), how[self._step.how](), *_undo_notes(self._step)]
        return "\n".join(lines) + "\n"

    def undo(self) -> str:
        step = self._step
        if step.undo_alone:
            text = self._unless("pending", ["set lock_timeout = 0;", *_ended(step.undo), self._note("pending")])
        elif step.how == "partitions":
            text = self._partitions("pending")
        else:
            text = self._transaction("pending", step.undo)
        return f"{self._echo('undo ')}\n{text}\n"

    def _echo(self, verb: str = "") -> str:
        step = self._step
        told = printable(f"[{self._entry.position}/{self._total}] {verb}{step.phase}: {step.name}")
        return "\\echo '" + told.replace("\\", "\\\\").replace("'", "''") + "'"

    def _together(self) -> str:
        return self._transaction("done", self._step.sql)

    def _transaction(self, state: str, statements: Sequence[str]) -> str:
        step = self._step
        patient = step.lock == "SHARE UPDATE EXCLUSIVE"  # which disturbs nobody who reads or writes
        place, guards = literal(step.table), _array(map(literal, step.guards))
        how = _boolean(patient), _boolean(step.quiet)
        return self._call("together", f"'{state}'", place, guards, *how, _texts(statements))

    def _batches(self) -> str:
        places, quiet = _array(map(literal, self._step.leaves)), _boolean(self._step.quiet)
        return self._call("batches", places, quiet, _texts(self._step.sql))

    def _partitions(self, state: str = "done") -> str:
        """Of those that are there already each has its own steps."""
        return self._call(
            "partitions", f"'{state}'", literal(self._step.table), _array(map(literal, self._step.leaves))
        )

    def _check(self) -> str:
        query = _quoted(f"\n{self._step.sql[0]}\n")
        return self._call("check", query, literal(self._step.problem))

    def _note(self, state: str) -> str:
        return self._call("note", f"'{state}'")

    def _call(self, name: str, *arguments: str) -> str:
        return f"call pg_temp.adopt_{name}({', '.join([str(self._entry.position), *arguments])});"

    def _alone(self) -> str:
        """In no transaction; what a broken attempt left is dropped first."""
        step = self._step
        running = f"update {SCHEMA}.steps set state = 'running' where position = {self._entry.position};"
        lines = [running, "set lock_timeout = 0;"]
        if step.index:
            found = f"indexrelid = to_regclass({literal(step.index)}) and not indisvalid"
            lines += [f"select exists (select from pg_index where {found}) as broken \\gset", "\\if :broken"]
            lines += [f"drop index concurrently if exists {step.index};", "\\endif"]
        return self._unless("done", [*lines, *_ended(step.sql), self._note("done")])

    def _unless(self, state: str, lines: Sequence[str]) -> str:
        query = f"select state <> '{state}' as todo from {SCHEMA}.steps where position = {self._entry.position} \\gset"
        return "\n".join([query, "\\if :todo", *lines, "\\endif"])


# --- text -------------------------------------------------------------------------------------------------------------


def _heading(step: Step) -> str:
    lock = f" [{step.lock}]" if step.lock else ""
    return f"-- {printable(step.name)}{lock}, about {step.seconds:.0f} s"


def _undo_notes(step: Step) -> list[str]:
    return _comment("-- undo: ", "\n".join(f"{statement};" for statement in step.undo))


def _comment(mark: str, text: str) -> list[str]:
    return [f"{mark}{line}" for line in text.splitlines()]


def _ended(statements: Sequence[str]) -> list[str]:
    return [f"{statement};" for statement in statements]


def _texts(statements: Sequence[str]) -> str:
    """Statements as texts, each as it is."""
    return _array(_quoted(f"\n{statement}\n") for statement in statements)


def _quoted(text: str, tag: str = "sql") -> str:
    """A text between dollars, with a tag that is not in it."""
    found = next(f"${tag}{n or ''}$" for n in count() if f"${tag}{n or ''}$" not in text)
    return f"{found}{text}{found}"


def _array(values: Iterable[str]) -> str:
    return f"array[{', '.join(values)}]::text[]"


def _boolean(value: object) -> str:
    return "true" if value else "false"
