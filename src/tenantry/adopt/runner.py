"""Runs the steps of a move on a live database: briefly locked, in small transactions, resumable, and back again.

Theory of operation.
- A lock that the app would feel is asked for with a short `lock_timeout`, again and again: whoever waits in a queue for
  a lock makes everybody behind it wait. Between attempts the queue is empty.
- Autovacuum gives way only to who waits a second for it. So a step first takes, patiently, the lock that keeps vacuum
  off and disturbs nobody (SHARE UPDATE EXCLUSIVE), and then, impatiently, what it needs.
- A batch waits for a row that the app holds no longer than that either: with a `lock_timeout` below the server's
  `deadlock_timeout` it is always the batch that gives way, never the app.
- No batch keeps the app from its rows for long, whatever the machine does meanwhile: one that takes too long is broken
  off by the server, and half of it is tried again. A page is the least; that one is let finish.
- No commit waits for the disk while others wait for its locks. After a crash of the server the last steps may be
  undone, last first and with their records: as if it had been killed sooner. Who is told that all is done has waited.
- A step and its record are one transaction; a step that cannot be (CREATE INDEX CONCURRENTLY) finds what a broken
  attempt left, and begins again.
- The app's database goes on changing: before each step it is looked up which tables and partitions are there. What is
  gone is left out; the way back leaves nothing undone because something else is not there any more.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from tenantry.adopt import answers, identity, record
from tenantry.adopt.identity import Presence
from tenantry.adopt.names import literal
from tenantry.adopt.record import Entry
from tenantry.adopt.step import FIRST, LAST, LEAF, PHASES, Phase, Step
from tenantry.errors import AdoptionRefused

if TYPE_CHECKING:
    import psycopg

_GUARD_MS = 3_000  # longer than the second after which autovacuum gives way
_FIRST_PAGES = 32
_MOST_PAGES = 8_192
_LONGEST = 1.75  # times as long as it should: what a batch may take, which leaves time to give way and to commit
_LONGEST_PAUSE = 1.0
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """`lock_ms`: how long a statement waits for a lock at once. `batch_ms`: about how long a batch takes; nearly twice
    that is the most. `rest`: how long it rests after each, as a share of that. `patience`: seconds after which a step
    that got no lock gives up."""

    lock_ms: int = 50
    batch_ms: int = 40
    rest: float = 0.0
    patience: float = 600.0


class Watcher(Protocol):
    """Is told what is done: a step before it begins, how far its batches are, in pages, and what became of it."""

    def begin(self, entry: Entry, total: int, *, undo: bool) -> None: ...
    def progress(self, entry: Entry, done: int, total: int) -> None: ...
    def end(self, entry: Entry, *, undo: bool) -> None: ...


def apply(
    connection: psycopg.Connection[Any], entries: Sequence[Entry], last: Phase, pace: Pace, watcher: Watcher
) -> None:
    """Does what is left to do up to and with a phase. Raises AdoptionRefused where a step cannot be done; what came
    before it stays."""
    run = _Run(connection, pace, watcher)
    for entry in entries:
        if entry.state != "done" and PHASES.index(entry.step.phase) <= PHASES.index(last):
            watcher.begin(entry, len(entries), undo=False)
            run.do(entry)
            watcher.end(record.read_entry(connection, entry.position), undo=False)
    record.flush(connection)


def undo(
    connection: psycopg.Connection[Any], entries: Sequence[Entry], first: Phase, pace: Pace, watcher: Watcher
) -> None:
    """Undoes what was done, last first, back to before a phase. Raises AdoptionRefused after contract has begun."""
    require_undoable(entries)
    run = _Run(connection, pace, watcher)
    for entry in reversed(list_undoable(entries, first)):
        watcher.begin(entry, len(entries), undo=True)
        run.undo(entry)
        watcher.end(record.read_entry(connection, entry.position), undo=True)
    record.flush(connection)


def list_undoable(entries: Sequence[Entry], first: Phase) -> list[Entry]:
    """What has been done of a phase and of those after it."""
    done = (entry for entry in entries if entry.state != "pending")
    return [entry for entry in done if PHASES.index(entry.step.phase) >= PHASES.index(first)]


def require_undoable(entries: Sequence[Entry]) -> None:
    """Raises AdoptionRefused after contract has begun."""
    if any(entry.state != "pending" and entry.step.phase == "contract" for entry in entries):
        raise AdoptionRefused(
            "The move cannot be undone any more: contract has begun.",
            hint="`tenantry adopt apply --to contract` finishes it.",
        )


def briefly(connection: psycopg.Connection[Any], step: Step, pace: Pace) -> None:
    """Runs what is no step of the move as one that is `together`, and keeps no record of it."""
    _Run(connection, pace, None)._together(step, step.sql, lambda _: None)


def outlast(connection: psycopg.Connection[Any], pace: Pace) -> None:
    """Waits for all transactions to end that are open in this database now. Raises AdoptionRefused where patience does
    not suffice."""
    left, began = _open_transactions(connection), time.monotonic()
    while left := left & _open_transactions(connection):
        if time.monotonic() - began > pace.patience:
            raise AdoptionRefused(
                f"Transactions that were open {pace.patience:g} s ago are so still, and may write rows of before.",
                detail="; ".join(f"process {pid}" for _, pid in sorted(left)[:_SHOWN]),
                hint="End them, or wait; then run it again: it goes on here.",
            )
        time.sleep(_LONGEST_PAUSE / 20)


def _open_transactions(connection: psycopg.Connection[Any]) -> set[tuple[str, int]]:
    """Of clients of this database but this one: transaction, process."""
    query = """
        select l.virtualxid, l.pid from pg_locks as l join pg_stat_activity as a on a.pid = l.pid
        where l.locktype = 'virtualxid' and l.virtualxid = l.virtualtransaction
          and a.datname = current_database() and a.usesysid is not null and l.pid <> pg_backend_pid()"""
    return set(connection.execute(query.encode()).fetchall())


class _Run:
    def __init__(self, connection: psycopg.Connection[Any], pace: Pace, watcher: Watcher | None) -> None:
        self._connection = connection
        self._pace = pace
        self._watcher = watcher
        move = record.read_move(connection)
        self._tables = move.tables if move else {}

    def do(self, entry: Entry) -> None:
        import psycopg

        with self._told(entry.step):
            try:
                self._do(entry)
            except psycopg.errors.UndefinedTable:
                if not self._look().left_out:
                    raise
                self._do(entry)  # a partition went at this moment: the step is done without it

    def _do(self, entry: Entry) -> None:
        there = self._look()
        if there.gone:  # partitions may be
            identity.require_names(self._connection, self._tables)
            identity.require_tables(self._connection, self._tables)
        if entry.step.table in there.left_out:
            record.note(self._connection, entry.position, "done")
            return
        entry = replace(entry, step=_present(entry.step, there))
        step = entry.step
        if step.how == "check":
            self._check(step)
            record.note(self._connection, entry.position, "done")
        elif step.how == "batches":
            self._batches(entry)
        elif step.how == "alone":
            record.note(self._connection, entry.position, "running")
            self._alone(step)
            record.note(self._connection, entry.position, "done")
        elif step.how == "partitions":
            record.note(self._connection, entry.position, "running")
            self._partitions(step)
            record.note(self._connection, entry.position, "done")
        else:
            self._together(step, step.sql, lambda held: record.note(self._connection, entry.position, "done", held))

    def undo(self, entry: Entry) -> None:
        with self._told(entry.step):
            there = self._look()
            step = _present(entry.step, there)
            if step.table in there.gone or self._is_gone(step.table):  # and all that was done to it
                pass
            elif step.how == "partitions":
                for leaf in reversed(there.newer(step.table, step.leaves)):
                    for part in reversed([part.of_leaf(leaf, step.index) for part in step.parts]):
                        self._together(part, part.undo, lambda _: None, lenient=True)
            elif step.undo_alone:
                self._connection.execute("set lock_timeout = 0")
                for statement in step.undo:
                    self._connection.execute(statement.encode())
            else:
                self._together(step, step.undo, lambda _: self._note_undone(entry), lenient=True)
                return
            self._note_undone(entry)

    def _note_undone(self, entry: Entry) -> None:
        record.note(self._connection, entry.position, "pending")

    def _look(self) -> Presence:
        return identity.look(self._connection, self._tables)

    def _is_gone(self, table: str) -> bool:
        return bool(answers.value(self._connection, "select to_regclass(%s) is null", [table or "pg_class"]))

    @contextmanager
    def _told(self, step: Step) -> Iterator[None]:
        """What the database would not do, as a sentence; not that it is gone itself."""
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            if self._connection.closed:
                raise
            if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
                identity.require_names(self._connection, self._tables)
                identity.require_columns(self._connection, self._tables, indexed=True)
                identity.require_tables(self._connection, self._tables)
            back = "" if step.phase == "contract" else ", or `tenantry adopt undo`"
            raise AdoptionRefused(
                f'The step "{step.name}" failed: {error.diag.message_primary or error}',
                detail=error.diag.message_detail,
                hint=f"What was done before stays. Mend it and run it again{back}.",
            ) from None

    # --- in one transaction

    def _together(
        self, step: Step, statements: Sequence[str], done: Callable[[float], None], *, lenient: bool = False
    ) -> None:
        """All statements and the record, once the locks are got. `lenient`: but for what is about things that are
        gone."""
        impatient = step.lock != "SHARE UPDATE EXCLUSIVE"  # which disturbs nobody who reads or writes
        wait = self._pace.lock_ms if impatient else _GUARD_MS
        for _ in self._attempts(step):
            with self._connection.transaction(), self._yielding():
                for table in step.guards:
                    self._limit(_GUARD_MS)
                    self._connection.execute(f"lock table {table} in share update exclusive mode".encode())
                self._limit(wait)
                if step.quiet:
                    self._connection.execute("set local session_replication_role = replica")
                began = time.monotonic()
                for statement in statements:
                    with self._unless_gone() if lenient else nullcontext():
                        self._connection.execute(statement.encode())
                done((time.monotonic() - began) * 1000)
                return

    @contextmanager
    def _unless_gone(self) -> Iterator[None]:
        """A statement that names what is not there any more, such as a role or a sequence, has nothing to undo."""
        import psycopg

        gone = psycopg.errors
        with (
            suppress(gone.UndefinedTable, gone.UndefinedObject, gone.UndefinedColumn, gone.InvalidSchemaName),
            self._connection.transaction(),
        ):
            yield

    def _attempts(self, step: Step) -> Iterator[int]:
        """As many as patience allows, further and further apart."""
        began, pause = time.monotonic(), 0.02
        attempt = 0
        while True:
            yield (attempt := attempt + 1)
            if time.monotonic() - began > self._pace.patience:
                raise AdoptionRefused(
                    f'The step "{step.name}" did not get its locks in {self._pace.patience:g} s ({attempt} attempts).',
                    detail=self._holders(step),
                    hint="End what holds them, or wait; then run it again: it goes on here.",
                )
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 1.6, _LONGEST_PAUSE)

    @contextmanager
    def _yielding(self) -> Iterator[None]:
        """Gives up what it has, quietly, where a lock is not to be had."""
        import psycopg

        try:
            yield
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            raise psycopg.Rollback from None

    def _limit(self, milliseconds: int) -> None:
        self._connection.execute(f"set local lock_timeout = '{milliseconds}ms'".encode())

    def _holders(self, step: Step) -> str | None:
        """Who holds locks on the tables of a step, as far as the login may see."""
        tables = [*step.guards, step.table] if step.table else list(step.guards)
        query = """
            select distinct a.pid, coalesce(a.state, a.backend_type), extract(epoch from now() - a.xact_start)::integer
            from pg_locks as l join pg_stat_activity as a on a.pid = l.pid
            where l.relation in (select to_regclass(name) from unnest(%s::text[]) as name)
              and l.granted and a.pid <> pg_backend_pid()
            order by 3 desc limit 5"""
        rows = self._connection.execute(query, [tables]).fetchall()
        return "; ".join(f"process {pid} ({state}, for {age} s)" for pid, state, age in rows) or None

    # --- outside a transaction

    def _alone(self, step: Step) -> None:
        self._connection.execute("set lock_timeout = 0")  # it waits for others, and nobody waits for it
        for _ in self._attempts(step):
            self._drop_broken(step)
            if self._try(step):
                return

    def _try(self, step: Step) -> bool:
        import psycopg

        try:
            for statement in step.sql:
                self._connection.execute(statement.encode())
        except psycopg.errors.DeadlockDetected:
            return False
        except psycopg.errors.UniqueViolation as error:
            self._drop_broken(step)
            raise AdoptionRefused(
                f'The step "{step.name}" found rows that are not unique.', detail=error.diag.message_detail
            ) from None
        return True

    def _drop_broken(self, step: Step) -> None:
        """A concurrent build that was broken off leaves an index that nobody may use."""
        if step.index:
            query = "select from pg_index where indexrelid = to_regclass(%s) and not indisvalid"
            if self._connection.execute(query, [step.index]).fetchone() is not None:
                self._connection.execute(f"drop index concurrently if exists {step.index}".encode())

    # --- in partitions that came later

    def _partitions(self, step: Step) -> None:
        for leaf in self._look().newer(step.table, step.leaves):
            self._do_parts(step, leaf)
        if not step.index or self._is_whole(step.index):
            return
        # The partition that was the last to join went before it did, and nothing else makes an index valid.
        self._together(step, [f"drop index if exists {step.index}", *step.sql], lambda _: None)
        for leaf in self._look().newer(step.table, ()):
            self._do_parts(step, leaf)

    def _do_parts(self, step: Step, leaf: str) -> None:
        if step.unless and self._connection.execute(_written(step.unless, leaf, 0, 0).encode()).fetchone():
            return
        for part in step.parts:
            part = part.of_leaf(leaf, step.index)
            if part.how == "alone":
                self._alone(part)
            else:
                self._together(part, part.sql, lambda _: None)

    def _is_whole(self, index: str) -> bool:
        query = "select indisvalid from pg_index where indexrelid = to_regclass(%s)"
        return bool(answers.value(self._connection, query, [index]))

    # --- in batches

    def _batches(self, entry: Entry) -> None:
        step = entry.step
        sizes = [self._pages(leaf) for leaf in step.leaves]
        begun = step.leaves.index(entry.leaf) if entry.leaf in step.leaves else 0
        size = _FIRST_PAGES
        for number, leaf in enumerate(step.leaves):
            if number < begun:
                continue
            page = entry.page if number == begun else 0
            while page < sizes[number]:
                taken, seconds = self._batch(entry, leaf, page, size)
                page += taken
                size = _resize(taken, seconds, self._pace.batch_ms)
                if self._watcher is not None:
                    self._watcher.progress(entry, sum(sizes[:number]) + min(page, sizes[number]), sum(sizes))
                time.sleep(seconds * self._pace.rest)
        record.note(self._connection, entry.position, "done")

    def _batch(self, entry: Entry, leaf: str, page: int, size: int) -> tuple[int, float]:
        """How many pages were done, and how long that took. Where a row is held by somebody, or the time is up, it
        tries with fewer."""
        step, held = entry.step, 0.0
        for _ in self._attempts(step):
            began = time.monotonic()
            longest = round(_LONGEST * self._pace.batch_ms) if size > 1 else 0  # 0: as long as it takes
            with self._connection.transaction(), self._yielding(), _in_time(longest):
                self._connection.execute(self._settings(step, longest).encode())
                rows = 0
                for statement in step.sql:
                    rows += self._connection.execute(_written(statement, leaf, page, page + size).encode()).rowcount
                held = max(held, time.monotonic() - began)
                record.note_batch(self._connection, entry.position, leaf, page + size, rows, held * 1000)
                return size, time.monotonic() - began
            held = max(held, time.monotonic() - began)
            size = max(1, size // 2)
        raise AssertionError("attempts end with an error")

    def _settings(self, step: Step, longest_ms: int) -> str:
        """Of a batch's transaction, sent at once: each round trip is time in which the server does nothing."""
        settings = {
            "lock_timeout": f"{self._pace.lock_ms}ms",
            "statement_timeout": f"{longest_ms}ms",
            # Row by row, by its owner's key: the tables that are looked into may be large, and a batch is not.
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "enable_seqscan": "off",
            "jit": "off",
        }
        if step.quiet:
            settings["session_replication_role"] = "replica"
        return "; ".join(f"set local {name} = '{value}'" for name, value in settings.items())

    def _pages(self, leaf: str) -> int:
        query = f"select pg_relation_size({literal(leaf)}) / current_setting('block_size')::bigint"
        return int(answers.value(self._connection, query))

    def _check(self, step: Step) -> None:
        if count := answers.value(self._connection, step.sql[0]):
            raise AdoptionRefused(
                step.problem.replace("{count}", str(count)), hint="What was done before stays: run it again then."
            )


def _present(step: Step, there: Presence) -> Step:
    """A step without what is gone; the rows of partitions that came later are its rows too."""
    guards = tuple(each for each in step.guards if each not in there.gone)
    if step.how == "batches" and step.table in there.parts:
        return replace(step, guards=guards, leaves=there.leaves(step.table, step.leaves))
    return replace(step, guards=guards)


def _written(statement: str, leaf: str, first: int, last: int) -> str:
    return statement.replace(LEAF, leaf).replace(FIRST, str(first)).replace(LAST, str(last))


def _resize(pages: int, seconds: float, wanted_ms: int) -> int:
    """As many pages as will take about as long as wanted; only half as many more at once, since one fast batch does not
    mean that the next will be."""
    ratio = wanted_ms / 1000 / max(seconds, 0.0005)
    return max(1, min(_MOST_PAGES, round(pages * min(1.5, max(0.25, ratio)))))


@contextmanager
def _in_time(milliseconds: int) -> Iterator[None]:
    """Gives up what it has, quietly, where the server broke it off because the time was up; 0 is no limit. Who breaks
    it off sooner is somebody else, and means it."""
    import psycopg

    began = time.monotonic()
    try:
        yield
    except psycopg.errors.QueryCanceled:
        if not milliseconds or time.monotonic() - began < milliseconds / 1000:
            raise
        raise psycopg.Rollback from None


def prepare(connection: psycopg.Connection[Any], owner: str) -> None:
    """Sets a session up to run steps: as the owner of the tables, and noticing when it has lost its client."""
    import psycopg

    role, *settings = preparations(owner)
    try:
        connection.execute(role.encode())
    except psycopg.errors.InsufficientPrivilege:
        login = answers.value(connection, "select quote_ident(session_user)")
        raise AdoptionRefused(
            f"A move is made as the owner of the tables, {owner}, and this login is {login}.",
            hint=f"Log in as {owner}.",
        ) from None
    for statement in settings:
        connection.execute(statement.encode())


def preparations(owner: str) -> tuple[str, ...]:
    return (
        f"set role {owner}",
        "set lock_timeout = 0",
        "set statement_timeout = 0",
        "set idle_in_transaction_session_timeout = 0",
        "set synchronous_commit = off",
        "set client_connection_check_interval = '1s'",
        "set client_min_messages = warning",
        "set default_tablespace = ''",  # what is made without one goes where the database is
    )
