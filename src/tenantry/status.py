"""The state of mirror, inbox and feed, judged: what is well, what a person should look at, what has failed.

`status_v1` gathers the facts in one call; everything else here is arithmetic on them. What a check says names no
organization, no person and no secret, so that it may stand on a public page; what to do next may name a consumer.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from tenantry import mirror
from tenantry.errors import ClerkUnavailable, ConfigurationError, DatabaseUnavailable, TenantryError

if TYPE_CHECKING:
    from tenantry import schema
    from tenantry.mirror import Call
    from tenantry.silence import Silence

Level = Literal["ok", "warn", "fail"]
Run = Callable[["Call"], Awaitable[str]]

_LEVELS: tuple[Level, ...] = ("ok", "warn", "fail")
_MOST_COUNTED, _MOST_LETTERS = 1000, 10_000  # status_v1 counts no further
_TYPES_SHOWN = 4
_RUNS_AT_ODDS = 2  # that many find what a type would have told: after an outage one does
_QUIET = timedelta(days=1)  # without a delivery: worth the question whether Clerk has changed since
_UNTOLD = timedelta(minutes=5)  # a consumer that somebody serves is never so far behind its next change
_UNPLACED = timedelta(minutes=1)
_MISSED_RUNS = 3
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_DASHBOARD = "in the Clerk dashboard, Webhooks: "

# What reconcile calls a kind of object, and Clerk its events.
_SUBJECTS = {
    "users": "user",
    "organizations": "organization",
    "memberships": "organizationMembership",
    "invitations": "organizationInvitation",
    "domains": "organizationDomain",
    "roles": "role",
    "permissions": "permission",
}
_VERBS = {"created": "created", "updated": "updated", "ended": "deleted"}


@dataclass(frozen=True, slots=True)
class Check:
    """One fact and its judgement: `warn` is for a person to look at, `fail` keeps the mirror from being right.

    `next` is what to do about it, in order: commands to type first.
    """

    name: str
    level: Level
    says: str
    next: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """All checks, and when the facts were gathered."""

    at: datetime
    checks: tuple[Check, ...]

    @property
    def level(self) -> Level:
        """The worst of them."""
        return max((check.level for check in self.checks), key=_LEVELS.index, default="ok")


@dataclass(frozen=True, slots=True)
class Backlog:
    """So many, the newest or oldest at a time; None where there are none."""

    count: int
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Reader:
    """A consumer: `since` is when the next change it is to be told was written."""

    name: str
    state: str
    behind: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Follower:
    """A table of the app's own that follows the mirror's organizations, and how many it does not have as they are."""

    table: str
    behind: int


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest reconcile run of everything. `counts` and `drift` by kind, as `tenantry.reconcile` keeps them."""

    dry: bool
    started_at: datetime
    finished_at: datetime | None
    under_way: bool
    counts: Mapping[str, Mapping[str, int]]
    drift: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What `status_v1` knows; `sql/functions/status_v1.sql` says what each is."""

    at: datetime
    schema: int
    instance_id: str | None
    heard_at: datetime | None
    silent_since: datetime
    changed_in_silence: datetime | None
    alarmed_at: datetime | None
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    dead_letters: Backlog
    dead_by_type: Mapping[str, int]
    refused: Backlog
    ties: int
    run: LastRun | None
    backfilled_at: datetime | None
    repaired: Mapping[str, Mapping[str, int]]
    unplaced: Backlog
    readers: tuple[Reader, ...]
    followers: tuple[Follower, ...] = ()


def read_facts(answer: str) -> Facts:
    """The facts in the answer of `mirror.status`."""
    told = mirror.decode(answer)
    return Facts(
        at=datetime.fromisoformat(told["at"]),
        schema=told["schema"],
        instance_id=told["instance_id"],
        heard_at=_time(told["heard_at"]),
        silent_since=datetime.fromisoformat(told["silent_since"]),
        changed_in_silence=_time(told["silence"] and told["silence"]["changed_at"]),
        alarmed_at=_time(told["silence"] and told["silence"]["raised_at"]),
        seen=tuple(told["seen"]),
        unseen=tuple(told["unseen"]),
        dead_letters=Backlog(told["dead_letters"]["count"], _time(told["dead_letters"]["newest_at"])),
        dead_by_type=told["dead_letters"]["by_type"],
        refused=Backlog(told["refused"]["count"], _time(told["refused"]["newest_at"])),
        ties=told["ties"],
        run=told["run"] and _read_run(told["run"]),
        backfilled_at=_time(told["backfilled_at"]),
        repaired=told["repaired"],
        unplaced=Backlog(told["unplaced"]["count"], _time(told["unplaced"]["since"])),
        readers=tuple(
            Reader(one["name"], one["state"], one["behind"], _time(one["since"])) for one in told["consumers"]
        ),
        followers=tuple(Follower(one["table"], one["behind"]) for one in told["followers"]),
    )


def _read_run(told: dict[str, Any]) -> LastRun:
    times = datetime.fromisoformat(told["started_at"]), _time(told["finished_at"])
    return LastRun(told["dry"], *times, told["under_way"], told["counts"], told["drift"])


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


async def gather(run: Run, *, reconcile_every: int, within: float) -> Status:
    """The status as a running app sees it; a database that is not there `within` so many seconds is part of it."""
    try:
        async with asyncio.timeout(within):
            return judge(read_facts(await run(mirror.status())), reconcile_every=reconcile_every)
    except TimeoutError:
        return without_facts(DatabaseUnavailable(f"The database did not answer within {within:g} s."))
    except TenantryError as error:
        return without_facts(error)


def without_facts(error: TenantryError, *, installed: schema.Status | None = None, with_detail: bool = False) -> Status:
    """The status where nothing could be read. Only an error's own sentence: its detail may name a host."""
    if installed and not installed.current:
        return Status(datetime.now(UTC), (_schema(installed.installed, installed),))
    name = "database" if isinstance(error, DatabaseUnavailable) else "schema"
    detail = f" {' '.join(error.detail.split())}" if with_detail and error.detail else ""
    check = Check(name, "fail", error.message + detail, (error.hint,) if error.hint else ())
    return Status(datetime.now(UTC), (check,))


def judge(
    facts: Facts,
    *,
    reconcile_every: int = 0,
    installed: schema.Status | None = None,
    findings: int | None = None,
    asked: bool = False,
    silence: Silence | None = None,
    unasked: TenantryError | None = None,
    unset: ConfigurationError | None = None,
) -> Status:
    """Judges the facts, and what the caller has found out besides.

    `reconcile_every`: seconds between background runs, 0 for none. `findings`: how many `tenantry db check` has.
    `silence`: what Clerk showed, if it was `asked`, that no delivery told of. `unasked`: why it could not be. `unset`:
    which setting cannot be read.
    """
    checks = [
        _webhooks(facts, asked, silence) if unasked is None else _unasked(facts, unasked),
        _event_types(facts),
        _dead_letters(facts),
        _refused(facts),
        _ties(facts),
        _reconcile(facts, reconcile_every),
        _feed(facts),
        *([_followers(facts)] if facts.followers else []),
        _instance(facts),
        _schema(facts.schema, installed),
    ]
    if unset is not None:
        checks.append(Check("settings", "fail", unset.message, (unset.hint,) if unset.hint else ()))
    if findings is not None:
        checks.append(_isolation(findings))
    return Status(facts.at, tuple(checks))


def _webhooks(facts: Facts, asked: bool, silence: Silence | None) -> Check:
    changed_at = facts.changed_in_silence if not asked else silence and silence.changed_at
    if changed_at:
        quiet = f"none for {_span_between(facts.heard_at, facts.at)}" if facts.heard_at else "none has ever arrived"
        says = f"{quiet}, though something changed at Clerk {_ago(changed_at, facts.at)}"
        advice = f"{_DASHBOARD}is the endpoint enabled, and what does it answer?"
        if not asked and _found_nothing_since(facts.run, facts.alarmed_at):
            says += "; a run has found the mirror right since"
            return Check("webhooks", "warn", says, (advice, f"{_DASHBOARD}send an example: it ends the alarm"))
        return Check("webhooks", "fail", says, ("tenantry reconcile", advice))
    if facts.heard_at is None:
        advice = f"{_DASHBOARD}add the endpoint, and send an example"
        return Check("webhooks", "warn", "none has ever arrived", (advice,))
    says = f"the last one {_ago(facts.heard_at, facts.at)}"
    if asked:
        says += ", and Clerk shows nothing that it did not tell"
    elif facts.at - facts.heard_at > _QUIET:
        says += "; whether Clerk has changed since: tenantry status --ask-clerk"
    return Check("webhooks", "ok", says)


def _found_nothing_since(run: LastRun | None, at: datetime | None) -> bool:
    if run is None or at is None or run.finished_at is None or run.started_at <= at:
        return False
    left = _sum(run.counts, *_VERBS, "unconfirmed", "unreadable")
    return not (left or run.drift.get("differences") or run.drift.get("braked"))


def _unasked(facts: Facts, error: TenantryError) -> Check:
    """As without asking, and why nobody could."""
    found = _webhooks(facts, asked=False, silence=None)
    again = "tenantry status --ask-clerk" if isinstance(error, ClerkUnavailable) else error.hint
    level: Level = "fail" if found.level == "fail" else "warn"
    says = f"{found.says}. Clerk could not be asked: {error.message}"
    return Check("webhooks", level, says, (*found.next, *([again] if again else [])))


def _event_types(facts: Facts) -> Check:
    missed = [type_ for type_ in _types_repaired(facts.repaired) if type_ in facts.unseen]
    if missed:
        return Check(
            "event types",
            "warn",
            f"never received, though runs found such changes: {', '.join(missed)}. Not ticked in the dashboard?",
            (f"{_DASHBOARD}tick {' '.join(missed)} at the endpoint",),
        )
    seen = f"{len(facts.seen)} of {len(facts.seen) + len(facts.unseen)} seen"
    return Check("event types", "ok", f"{seen}; not yet: {_first(facts.unseen)}" if facts.unseen else seen)


def _first(types: Sequence[str]) -> str:
    shown = ", ".join(types[:_TYPES_SHOWN])
    return f"{shown} and {len(types) - _TYPES_SHOWN} more" if len(types) > _TYPES_SHOWN else shown


def _types_repaired(repaired: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    for kind, subject in _SUBJECTS.items():
        for name, verb in _VERBS.items():
            if repaired.get(kind, {}).get(name, 0) >= _RUNS_AT_ODDS:
                yield f"{subject}.{verb}"


def _dead_letters(facts: Facts) -> Check:
    letters = facts.dead_letters
    if letters.at is None:
        return Check("dead letters", "ok", "none")
    known = {*facts.seen, *facts.unseen}
    by_type = sorted(facts.dead_by_type.items(), key=lambda one: (-one[1], one[0]))
    shown = [f"{type_ if type_ in known else 'of no known type'} {count}" for type_, count in by_type[:_TYPES_SHOWN]]
    more = [f"{len(by_type) - _TYPES_SHOWN} types more"] if len(by_type) > _TYPES_SHOWN else []
    says = f"{_counted(letters.count, _MOST_LETTERS)}, the newest {_ago(letters.at, facts.at)}"
    return Check(
        "dead letters",
        "warn",
        f"{says}: {', '.join(shown + more)}",
        ("tenantry events list --outcome failed", "tenantry events replay --failed"),
    )


def _refused(facts: Facts) -> Check:
    if facts.refused.at is None:
        return Check("refused", "ok", "none in the last day")
    says = f"{_counted(facts.refused.count)} deliveries in the last day, of another Clerk instance"
    advice = f"{_DASHBOARD}which instance's endpoint leads here?"
    return Check("refused", "warn", says, ("tenantry instance show", advice))


def _ties(facts: Facts) -> Check:
    if not facts.ties:
        return Check("ties", "ok", "none")
    says = f"{_counted(facts.ties)} objects of which Clerk told two contents of one version"
    return Check("ties", "warn", says, ("tenantry reconcile --quick",))


def _reconcile(facts: Facts, every: int) -> Check:
    run = facts.run
    if run is None:
        says = "no run yet: what is older than the webhooks is not in the mirror"
        return Check("reconcile", "warn", says, ("tenantry reconcile",))
    if run.under_way:
        return Check("reconcile", "ok", f"a run is under way, begun {_ago(run.started_at, facts.at)}")
    if run.finished_at is None:
        says = f"the run begun {_ago(run.started_at, facts.at)} was stopped before its end"
        return Check("reconcile", "warn", says, ("tenantry reconcile",))
    when = _ago(run.finished_at, facts.at)
    if braked := run.drift.get("braked"):
        gone = ", ".join(f"{count} {kind}" for kind, count in sorted(braked.items()))
        says = f"the brake held {when}: {gone} are gone at Clerk, more than a run may end"
        return Check("reconcile", "warn", says, ("tenantry reconcile --dry-run", "tenantry reconcile --allow-mass-end"))
    if differences := run.drift.get("differences"):
        says = f"a dry run found {differences} differences {when}"
        return Check("reconcile", "warn", says, ("tenantry reconcile",))
    if left := _sum(run.counts, "unconfirmed", "unreadable"):
        says = f"a run left {left} objects in doubt {when}"
        return Check("reconcile", "warn", says, ("tenantry reconcile",))
    last = facts.backfilled_at
    if every and (last is None or facts.at - last > timedelta(seconds=_MISSED_RUNS * every)):
        says = f"the last run ended {_ago(last, facts.at) if last else 'never'}, and one is due every {_span(every)}"
        return Check("reconcile", "warn", says, ("tenantry reconcile", "the app's log says why its own do not run"))
    listed, repaired = _sum(run.counts, "listed"), _sum(run.counts, *_VERBS)
    found = "no difference" if run.dry else f"{listed:,} objects listed, {repaired:,} repaired"
    return Check("reconcile", "ok", f"{when}, {found}")


def _feed(facts: Facts) -> Check:
    readers = facts.readers
    total = "1 consumer" if len(readers) == 1 else f"{len(readers)} consumers"
    says, following = [], []
    for state in ("parked", "failing"):
        if stuck := [one.name for one in readers if one.state == state]:
            says.append(f"{len(stuck)} {state}")
            following += [f"tenantry changes resume {shlex.quote(name)}" for name in stuck]
    if untold := [one for one in readers if one.state == "reading" and one.since and facts.at - one.since > _UNTOLD]:
        says.append(f"{len(untold)} told by nobody")
        following += [
            f"tenantry changes remove {shlex.quote(one.name)}  # if it has no handler any more" for one in untold
        ]
    waits = facts.unplaced.at
    if readers and waits and facts.at - waits > _UNPLACED:
        says.append(f"{_counted(facts.unplaced.count)} changes without a place for {_span_between(waits, facts.at)}")
        following.append("tenantry changes  # gives them their place")
    if not says:
        behind = sum(one.behind for one in readers)
        return Check("feed", "ok", f"{total}, {_counted(behind)} changes to come" if readers else "nobody is told")
    return Check("feed", "warn", f"of {total}: {', '.join(says)}", ("tenantry changes list", *following))


def _followers(facts: Facts) -> Check:
    total = "1 table" if len(facts.followers) == 1 else f"{len(facts.followers)} tables"
    behind = sum(one.behind for one in facts.followers)
    if not behind:
        return Check("followers", "ok", f"{total} of the app's own, up to date")
    says = f"{total} of the app's own, which lack {_counted(behind)} organizations as they are"
    return Check("followers", "warn", says, ("tenantry db check", "select tenantry.catch_up_v1();"))


def _instance(facts: Facts) -> Check:
    if facts.instance_id is None:
        return Check("instance", "ok", "none yet: the first delivery or run binds it")
    # An id of Clerk's stands in its public keys; whatever else somebody bound stays here.
    known = re.fullmatch(r"ins_\w{1,60}", facts.instance_id)
    return Check("instance", "ok", facts.instance_id if known else "bound")


def _schema(number: int, installed: schema.Status | None) -> Check:
    if installed is None or installed.current:
        newer = ", of a newer release than this" if installed and installed.newer else ""
        return Check("schema", "ok", f"migration {number}{newer}")
    pending = f"{len(installed.pending)} migrations" if installed.pending else "functions"
    return Check("schema", "fail", f"migration {number}, {pending} pending", ("tenantry db migrate",))


def _isolation(findings: int) -> Check:
    if not findings:
        return Check("isolation", "ok", "every table is isolated or shared")
    return Check("isolation", "warn", f"{findings} findings", ("tenantry db check",))


def _sum(counts: Mapping[str, Mapping[str, int]], *names: str) -> int:
    return sum(tally.get(name, 0) for tally in counts.values() for name in names)


def _counted(count: int, most: int = _MOST_COUNTED) -> str:
    return f"{count:,}" if count < most else f"{most:,} or more"


def _ago(then: datetime, now: datetime) -> str:
    return f"{_span_between(then, now)} ago"


def _span_between(then: datetime, now: datetime) -> str:
    return _span((now - then).total_seconds())


def _span(seconds: float) -> str:
    """In the largest unit that fits: `90 s` is `1 min`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"
