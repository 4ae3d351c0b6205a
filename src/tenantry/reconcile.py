"""Backfill and drift: makes the mirror what Clerk's Backend API lists, and says where the two differed.

Theory of operation.
- A page proves that what it shows was there when it was read. It never proves that something else was not: offsets
  shift while rows come and go, pages repeat, break off, or come back empty. So a page only merges snapshots, compared
  with webhooks by Clerk's own versions and clock: neither undoes the other's news.
- A run has a `started_at` on Clerk's clock (`ServerClock`: never later than true). Rows that no page has shown, and
  nothing else since `started_at`, may be gone: they are asked for, one by one, after the listing.
- Gone is what Clerk itself says it does not have: a 404 of its own for the object; where an object has no address
  (memberships, domains) two different lists without it. `last_absent` is the time of that answer; a later sighting by
  anybody revives the row, an earlier one does not.
- More endings than the brake allows end nothing: an outage that looks like emptiness, or a mistake, is for a person.
- Parents are listed before children: whoever is gone takes along, unasked, what belonged to them.
- Neighbouring pages overlap by one object. Where the overlap does not match, rows have moved, and the seam is read
  again; a listing that showed fewer objects than it counts is read once more.
- Pages are remembered as they are merged, in the same transaction: a killed run goes on behind its last page.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

from tenantry import mirror
from tenantry.clerk import LARGEST_PAGE, open_api
from tenantry.errors import CallRefused, InvalidArgument, ReconcileUnderWay, TenantryError

if TYPE_CHECKING:
    from tenantry.clerk import BackendApi, Json, Page
    from tenantry.mirror import Call
    from tenantry.settings import Settings

log = logging.getLogger("tenantry")

BRAKE = 0.05  # of a kind
FEWEST_BRAKED = 10
MOST_DRIFTS = 1000  # told in full; the others are counted

_AT_ONCE = 4  # requests, each with its merge
_PASSES = 3  # over a listing that counts more objects than it showed
_PASS = 1_000_000  # numbers of pages begin anew with each
_SHORT_TRIES = 2
_ASKED_AT_ONCE = 1000
_USERS_A_REQUEST = 100  # Clerk's limit for a filter
_NEWS_MS = 60_000  # an organization younger than the run, or nearly, may not have been listed

T = TypeVar("T")
Progress = Callable[[str, int, int], None]  # kind, objects so far, objects in all


class Mirror(Protocol):
    """Runs the calls of `tenantry.mirror`, each in a transaction of its own; `hold` keeps one open."""

    async def run(self, call: Call) -> str: ...
    def hold(self, call: Call) -> AbstractAsyncContextManager[str]: ...


class ClosedMirror(Mirror, Protocol):
    """One that is connected between `open` and `close`, again and again."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """Where Clerk lists a kind of objects: in the instance, in an organization; and where one of them is."""

    name: str
    everywhere: str
    of_organization: str | None = None
    one: str | None = None


KINDS = (
    Kind("permissions", "/organization_permissions", one="/organization_permissions/{id}"),
    Kind("roles", "/organization_roles", one="/organization_roles/{id}"),
    Kind("users", "/users", one="/users/{id}"),
    Kind("organizations", "/organizations", one="/organizations/{id}"),
    Kind("memberships", "/organization_memberships", "/organizations/{org}/memberships"),
    Kind(
        "invitations",
        "/organization_invitations",
        "/organizations/{org}/invitations",
        "/organizations/{org}/invitations/{id}",
    ),
    Kind("domains", "/organization_domains", "/organizations/{org}/domains"),
)
_BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to do. `quick`: organizations, members counted, ties and stubs. `unless_within`: seconds.

    `brake`: the share of a kind that may end, where that is ten objects or more. `page_size`: 2 to 500.
    """

    org_id: str | None = None
    dry_run: bool = False
    quick: bool = False
    allow_mass_end: bool = False
    brake: float = BRAKE
    unless_within: int = 0
    page_size: int = LARGEST_PAGE


@dataclass(slots=True)
class Tally:
    """What became of a kind. `unconfirmed`: not listed, and Clerk did not say clearly that it has them no more.
    `braked`: so many would have ended. `unreadable`: objects the database could not take."""

    listed: int = 0
    created: int = 0
    updated: int = 0
    ended: int = 0
    unconfirmed: int = 0
    braked: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference: `mirror` and `clerk` are values of the field; the field `exists` is the object itself."""

    kind: str
    id: str
    field: str
    mirror: Any
    clerk: Any
    cause: str
    org_id: str | None
    user_id: str | None


@dataclass(frozen=True)
class Report:
    """What a run found and did; `run_id` is None where none was due. `drifted` counts what is not in `drift` too."""

    run_id: int | None
    resumed: bool = False
    seconds: float = 0.0
    tallies: dict[str, Tally] = field(default_factory=dict)
    drift: list[Drift] = field(default_factory=list)
    drifted: int = 0

    @property
    def agrees(self) -> bool:
        """Whether mirror and Clerk agree now, as far as the run can tell."""
        left = any(tally.unconfirmed or tally.braked or tally.unreadable for tally in self.tallies.values())
        return not left and not self.drifted


async def reconcile(
    api: BackendApi, database: Mirror, plan: Plan | None = None, progress: Progress | None = None
) -> Report:
    """Makes the mirror agree with Clerk, or says where it does not.

    Raises ReconcileUnderWay while another process does, WrongInstance where the key is of another instance than the
    database, ClerkRefused, ClerkUnavailable, DatabaseUnavailable: run again, and it goes on where it stopped.
    """
    plan = plan or Plan()
    instance_id = await api.instance_id()
    async with database.hold(mirror.lock_reconcile()) as answer:
        if not mirror.decode(answer)["locked"]:
            raise ReconcileUnderWay
        report, miscounted = await _begin(api, database, plan, instance_id, progress)
        for org_id in miscounted:
            again = replace(plan, org_id=org_id, quick=False)
            more, _ = await _begin(api, database, again, instance_id, progress)
            _add(report.tallies, more.tallies)
        return report


async def keep_reconciled(settings: Settings, database: ClosedMirror, every: int) -> None:
    """Reconciles every so many seconds, for ever: of several processes whichever comes first does it for all.

    The database is connected to for the length of a run alone.
    """
    await asyncio.sleep(random.uniform(0.02, 0.1) * every)
    plan = Plan(unless_within=every * 3 // 4)
    while True:
        try:
            await database.open()
            async with open_api(settings) as api:
                _log(await reconcile(api, database, plan))
        except ReconcileUnderWay:
            pass
        except TenantryError as error:
            log.warning("reconcile: %s", " ".join(str(error).split()))
        except Exception:
            log.exception("reconcile")
        finally:
            await database.close()
        await asyncio.sleep(random.uniform(0.9, 1.1) * every)


def _log(report: Report) -> None:
    for kind, tally in report.tallies.items():
        told = {name: number for name, number in asdict(tally).items() if number and name != "listed"}
        if told:
            level = logging.ERROR if tally.braked else logging.INFO
            log.log(level, "reconcile: %s %s", kind, ", ".join(f"{number} {name}" for name, number in told.items()))


async def _begin(
    api: BackendApi, database: Mirror, plan: Plan, instance_id: str, progress: Progress | None
) -> tuple[Report, list[str]]:
    options = {"instance_id": instance_id, "started_at": api.now(), "org_id": plan.org_id}
    options |= {"dry_run": plan.dry_run, "fresh": plan.quick, "unless_within": plan.unless_within}
    begun = mirror.decode(await database.run(mirror.begin_reconcile(options)))
    if not begun:
        return Report(None), []
    run = _Run(api, database, plan, instance_id, begun, progress or (lambda *_: None))
    return await run.work()


class _Run:
    """One run, from its row in `reconcile_runs`."""

    def __init__(
        self,
        api: BackendApi,
        database: Mirror,
        plan: Plan,
        instance_id: str,
        begun: Mapping[str, Any],
        progress: Progress,
    ) -> None:
        self._api = api
        self._database = database
        self._plan = plan
        self._instance_id = instance_id
        self._begun = begun
        self._progress = progress
        self._done: list[str] = list(begun["state"].get("done", []))
        self._tallies = {name: Tally(**kept) for name, kept in begun["state"].get("tallies", {}).items()}
        self._merging = asyncio.Semaphore(2)  # one page is read while another is written; more would wait for locks
        self._asked = count(1)
        self._step = plan.page_size - 1
        self._miscounted: list[str] = []
        self._gone: dict[str, set[str]] = {"organizations": set(), "users": set()}  # of a dry run
        self._drift: list[dict[str, Any]] = []
        self._differing: set[int] = set()

    async def work(self) -> tuple[Report, list[str]]:
        """Lists every kind, ends what is gone; the organizations whose members are to be listed come beside it."""
        began = time.monotonic()
        if self._plan.org_id is not None:
            await self._reconcile_organization(self._plan.org_id)
        else:
            for kind in [_BY_NAME["organizations"]] if self._plan.quick else KINDS:
                await self._reconcile_kind(kind)
        if not self._plan.dry_run:
            await self._settle_doubts()
        causes = await self._explain()
        await self._save(finished=True)
        drift = [_told(each, causes) for each in self._drift]
        seconds = time.monotonic() - began
        report = Report(
            self._begun["id"], self._begun["resumed"], seconds, dict(self._tallies), drift, len(self._differing)
        )
        return report, sorted(set(self._miscounted))

    # --- what is there

    async def _reconcile_kind(self, kind: Kind) -> None:
        if kind.name in self._done:
            return
        if await self._list(kind, kind.everywhere):
            await self._finish(kind)
        elif kind.of_organization:  # an instance without this list
            async for org_id in self._organizations():
                await self._list(kind, kind.of_organization.format(org=_in_path(org_id)), org_id)
            await self._finish(kind)

    async def _reconcile_organization(self, org_id: str) -> None:
        found = await self._api.one(f"/organizations/{_in_path(org_id)}")
        kind = _BY_NAME["organizations"]
        if found.object is None:
            rows = mirror.decode(await self._database.run(mirror.list_unseen(self._begun["id"], kind.name, None, 1)))
            if not rows["live"]:
                raise InvalidArgument(f"Neither Clerk nor the mirror has a live organization {org_id!r:.80}.")
            await self._end(kind, [(org_id, found.observed_at)])
            return
        await self._merge_asked(kind, [found.object], found.observed_at)
        await self._count(kind)
        await self._list(_BY_NAME["users"], "/users", org_id, organization_id=org_id)
        await self._count(_BY_NAME["users"])
        for kind in KINDS:
            if kind.of_organization and kind.name not in self._done:
                await self._list(kind, kind.of_organization.format(org=_in_path(org_id)), org_id)
                await self._finish(kind)

    async def _finish(self, kind: Kind) -> None:
        await self._end_unseen(kind)
        await self._count(kind)
        self._done.append(kind.name)
        await self._save()

    async def _list(self, kind: Kind, path: str, part: str = "", **query: Any) -> bool:
        """Merges a whole listing; False where Clerk has no such list."""
        for number in range(_PASSES):
            told = await self._pages(kind, part)
            if number and told["seen"] >= max((page["total"] or 0 for page in told["pages"]), default=0):
                break
            listing = _Listing(kind, path, part, query, number * _PASS, told["pages"])
            if not await self._list_once(listing):
                return False
        return True

    async def _list_once(self, listing: _Listing) -> bool:
        if listing.kind.name == "organizations":
            listing.query["include_members_count"] = "true"
        if listing.kind.name == "users":
            listing.total = 0 if listing.query else await self._api.count("/users/count")
        if 0 not in listing.merged and not await self._fetch(listing, 0):
            return False
        last = max(0, -(-(listing.total - 1) // self._step) - 1)
        missing = [number for number in range(1, last + 1) if number not in listing.merged]
        await _each(lambda number: self._fetch(listing, number), missing)
        while last in listing.full and listing.merged[last] != listing.merged.get(last - 1):  # it has grown
            last += 1
            await self._fetch(listing, last)
        for number in range(last):
            ends, begins = listing.merged.get(number), listing.merged.get(number + 1)
            if ends and begins and ends[1] != begins[0]:
                await self._fetch(listing, number, shift=self._step - self._plan.page_size // 2)
        return True

    async def _fetch(self, listing: _Listing, number: int, shift: int = 0) -> bool:
        """Merges a page; with a shift it is one that lies over the seam between two."""
        offset = number * self._step + shift
        page = await self._ask_page(listing, offset)
        if page is None:
            return False
        listing.total = max(listing.total, page.total or 0)
        if page.objects or not number:
            noted = listing.first + number if not shift else -next(self._asked)
            run = self._page_of_run(listing.part, noted, listing.total)
            answer = await self._merge(listing.kind, page.objects, page.observed_at, run)
            if not shift:
                listing.merged[number] = (answer.get("first_id"), answer.get("last_id"))
        if self._plan.quick:
            members = {each["id"]: each["members_count"] for each in page.objects if "members_count" in each}
            self._miscounted += mirror.decode(await self._database.run(mirror.find_miscounted(members)))
        if len(page.objects) >= self._plan.page_size and not shift:
            listing.full.add(number)
        listing.shown += len(page.objects)
        self._progress(listing.kind.name, min(listing.shown, listing.total), listing.total)
        return True

    async def _ask_page(self, listing: _Listing, offset: int) -> Page | None:
        """A page that holds as much as the listing's total promises, if Clerk gives one in a few tries."""
        query = {"order_by": "created_at", **listing.query}
        for _ in range(_SHORT_TRIES):
            page = await self._api.page(listing.path, offset=offset, limit=self._plan.page_size, **query)
            if page is None:
                return None
            total = listing.total if page.total is None else page.total
            if len(page.objects) >= min(self._plan.page_size, total - offset):
                return page
        return page

    async def _organizations(self) -> AsyncIterator[str]:
        after = None
        while found := mirror.decode(await self._database.run(mirror.list_organizations(after))):
            for org_id in found:
                yield org_id
            after = found[-1]

    # --- what is gone

    async def _end_unseen(self, kind: Kind) -> None:
        tally = self._tally(kind)
        gone: list[tuple[str, int]] = []
        after, most = None, 0
        while True:
            call = mirror.list_unseen(self._begun["id"], kind.name, after, _ASKED_AT_ONCE)
            told = mirror.decode(await self._database.run(call))
            if after is None:
                most = max(FEWEST_BRAKED - 1, int(told["live"] * self._plan.brake))
            if not told["rows"]:
                break
            after = told["rows"][-1]["id"]
            absent, unclear = await self._confirm(kind, [row for row in told["rows"] if not self._went_along(row)])
            tally.unconfirmed += unclear
            gone += absent
            if self._plan.allow_mass_end:
                await self._end(kind, gone)
                gone = []
            elif len(gone) > most:
                tally.braked = max(len(gone), told["unseen"])
                if not self._plan.dry_run:
                    return
                break
        await self._end(kind, gone)

    async def _end(self, kind: Kind, gone: Sequence[tuple[str, int]]) -> None:
        """Merges confirmed absences, those of about the same time together."""
        for start in range(0, len(gone), 100):
            some = gone[start : start + 100]
            await self._merge(kind, [], min(at for _, at in some), self._this_run(), [one for one, _ in some])
            if self._plan.dry_run:
                self._gone.setdefault(kind.name, set()).update(one for one, _ in some)
            else:
                self._tally(kind).ended += len(some)

    def _went_along(self, row: Mapping[str, Any]) -> bool:
        """Whether a row's organization or user is gone in a dry run, which does not end them."""
        return row["org_id"] in self._gone["organizations"] or row["user_id"] in self._gone["users"]

    async def _confirm(self, kind: Kind, rows: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[str, int]], int]:
        """Asks Clerk for each: who is gone, since when, and of how many that is not clear. Merges the others."""
        answers: list[tuple[str, int] | None] = []
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            groups.setdefault(row["org_id"] or "", []).append(row)
        if kind.name == "memberships":
            chunks = [g[n : n + _USERS_A_REQUEST] for g in groups.values() for n in range(0, len(g), _USERS_A_REQUEST)]
            await _each(lambda chunk: self._confirm_members(kind, chunk, answers), chunks)
        elif kind.name == "domains":
            await _each(lambda group: self._confirm_domains(kind, group, answers), list(groups.values()))
        else:
            await _each(lambda row: self._confirm_one(kind, row, answers), rows)
        return [answer for answer in answers if answer], answers.count(None)

    async def _confirm_one(self, kind: Kind, row: Mapping[str, Any], answers: list[tuple[str, int] | None]) -> None:
        path = (kind.one or "").format(id=_in_path(row["id"]), org=_in_path(row["org_id"] or ""))
        found = await self._api.one(path)
        if found.object is None:
            answers.append((row["id"], found.observed_at))
        elif found.object["id"] == row["id"]:
            await self._merge_asked(kind, [found.object], found.observed_at)
        else:
            answers.append(None)

    async def _confirm_members(
        self, kind: Kind, rows: Sequence[Mapping[str, Any]], answers: list[tuple[str, int] | None]
    ) -> None:
        """By the organization's list, then, those it lacks, by their users' own lists."""
        path = f"/organizations/{_in_path(rows[0]['org_id'])}/memberships"
        page = await self._api.page(path, user_id=[row["user_id"] for row in rows])
        if page is None:
            answers += [None] * len(rows)  # the organization has gone meanwhile: its end takes them along
            return
        await self._merge_asked(kind, page.objects, page.observed_at)
        shown = {each["id"] for each in page.objects}
        for row in rows:
            if row["id"] not in shown:
                path = f"/users/{_in_path(row['user_id'])}/organization_memberships"
                answers += await self._confirm_in(kind, path, row, page.observed_at)

    async def _confirm_domains(
        self, kind: Kind, rows: Sequence[Mapping[str, Any]], answers: list[tuple[str, int] | None]
    ) -> None:
        """By the organization's list, then by the instance's."""
        org_id = rows[0]["org_id"]
        page = await self._api.page(f"/organizations/{_in_path(org_id)}/domains")
        if page is None:
            answers += [None] * len(rows)
            return
        await self._merge_asked(kind, page.objects, page.observed_at)
        shown = {each["id"] for each in page.objects}
        for row in rows:
            if row["id"] not in shown:
                answers += await self._confirm_in(
                    kind, "/organization_domains", row, page.observed_at, organization_id=org_id
                )

    async def _confirm_in(
        self, kind: Kind, path: str, row: Mapping[str, Any], observed_at: int, **query: Any
    ) -> list[tuple[str, int] | None]:
        """Whether a second list lacks the row too; without such a list the first one's word holds."""
        offset, total = 0, 1
        while offset < total:
            page = await self._api.page(path, offset=offset, **query)
            if page is None:
                break
            found = [each for each in page.objects if each["id"] == row["id"]]
            if found:
                await self._merge_asked(kind, found, page.observed_at)
                return []
            total = page.total or 0
            if not page.objects and offset < total:
                return [None]
            offset += len(page.objects) or 1
        return [(row["id"], observed_at)]

    # --- what is in doubt

    async def _settle_doubts(self) -> None:
        """Asks for what ties left in doubt, and for what is known by its id alone; ends nothing."""
        asked: list[str] = []
        while True:
            rows = mirror.decode(await self._database.run(mirror.list_doubts(asked, self._plan.org_id)))
            if not rows:
                return
            asked += [row["id"] for row in rows]
            for kind in KINDS:
                await self._confirm(kind, [row for row in rows if row["kind"] == kind.name])

    # --- the database

    async def _merge_asked(self, kind: Kind, objects: Sequence[Json], observed_at: int) -> None:
        """Merges what was asked for, as a page of its own."""
        await self._merge(kind, objects, observed_at, self._page_of_run("asked", -next(self._asked), None))

    def _this_run(self) -> dict[str, Any]:
        return {"id": self._begun["id"], "attempt": self._begun["attempt"]}

    def _page_of_run(self, part: str, number: int, total: int | None) -> dict[str, Any]:
        return {**self._this_run(), "part": part, "number": number, "total": total}

    async def _merge(
        self,
        kind: Kind,
        objects: Sequence[Json],
        observed_at: int,
        run: dict[str, Any] | None = None,
        absent: Sequence[str] = (),
    ) -> dict[str, Any]:
        options: dict[str, Any] = {"observed_at": observed_at, "instance_id": self._instance_id, "absent": absent}
        options |= {"dry_run": self._plan.dry_run} | ({"run": run} if run else {})
        slim = [_slim(each, self._begun["started_at"] - _NEWS_MS) for each in objects]
        call = mirror.merge_page(kind.name, slim, options)
        try:
            async with self._merging:
                answer: dict[str, Any] = mirror.decode(await self._database.run(call))
        except (InvalidArgument, CallRefused) as error:
            return await self._merge_pieces(kind, objects, observed_at, run, error)
        for each in answer.get("drift") or []:
            self._note_drift({"kind": kind.name, **each})
        return answer

    def _note_drift(self, each: dict[str, Any]) -> None:
        """Once, though pages overlap."""
        key = hash((each["kind"], each["id"], each["field"]))
        if key not in self._differing:
            self._differing.add(key)
            if len(self._drift) < MOST_DRIFTS:
                self._drift.append(each)

    async def _merge_pieces(
        self, kind: Kind, objects: Sequence[Json], observed_at: int, run: dict[str, Any] | None, error: TenantryError
    ) -> dict[str, Any]:
        """What the database could not take as a whole: all of it but the objects it cannot take."""
        if not objects or not _is_of_data(error):
            raise error
        if len(objects) == 1:
            log.warning("reconcile: %s %s cannot be read: %s", kind.name, objects[0]["id"], error.code)
            self._tally(kind).unreadable += 1
            return {"first_id": objects[0]["id"], "last_id": objects[0]["id"]}
        middle = len(objects) // 2
        first = await self._merge(kind, objects[:middle], observed_at, run)
        second = await self._merge(kind, objects[middle:], observed_at, run)
        return {"first_id": first.get("first_id"), "last_id": second.get("last_id")}

    async def _pages(self, kind: Kind, part: str) -> dict[str, Any]:
        told: dict[str, Any] = mirror.decode(
            await self._database.run(mirror.list_pages(self._begun["id"], kind.name, part))
        )
        return told

    async def _count(self, kind: Kind) -> None:
        told, tally = await self._pages(kind, ""), self._tally(kind)
        tally.listed, tally.created, tally.updated = told["listed"], told["created"], told["updated"]

    async def _explain(self) -> dict[str, str]:
        if not self._drift:
            return {}
        call = mirror.explain_drift(self._drift, self._api.now())
        causes: dict[str, str] = mirror.decode(await self._database.run(call))
        return causes

    async def _save(self, *, finished: bool = False) -> None:
        tallies = {name: asdict(tally) for name, tally in self._tallies.items()}
        state = {"done": self._done, "tallies": tallies} | ({"quick": True} if self._plan.quick else {})
        drift = {
            "differences": len(self._differing),
            "braked": {n: t.braked for n, t in self._tallies.items() if t.braked},
        }
        told = {"id": self._begun["id"], "attempt": self._begun["attempt"], "state": state, "counts": tallies}
        await self._database.run(mirror.save_reconcile({**told, "drift": drift, "finished": finished}))

    def _tally(self, kind: Kind) -> Tally:
        return self._tallies.setdefault(kind.name, Tally())


class _Listing:
    """A listing under way: which pages are merged, with the ids they begin and end with, and which were full."""

    def __init__(
        self, kind: Kind, path: str, part: str, query: Mapping[str, Any], first: int, pages: Iterable[Mapping[str, Any]]
    ) -> None:
        self.kind = kind
        self.path = path
        self.part = part
        self.query = dict(query)
        self.first = first  # the number its page 0 has in the run
        known = [page for page in pages if first <= page["number"] < first + _PASS]
        self.merged = {page["number"] - first: (page["first_id"], page["last_id"]) for page in known}
        self.total = max((page["total"] or 0 for page in known), default=0)
        self.full: set[int] = set()
        self.shown = 0


def _in_path(clerk_id: str) -> str:
    return quote(clerk_id, safe="")


async def _each(do: Callable[[T], Awaitable[Any]], things: Iterable[T]) -> None:
    """Does it for all, a few at a time; the first error ends it."""
    left = iter(things)

    async def work() -> None:
        for thing in left:
            await do(thing)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _is_of_data(error: TenantryError) -> bool:
    """Whether what the database refused was the content: an argument of ours, or PostgreSQL's class 22."""
    return isinstance(error, InvalidArgument) or "(22" in (error.detail or "")


_UNUSED = frozenset({
    "private_metadata", "unsafe_metadata", "phone_numbers", "web3_wallets", "passkeys", "external_accounts",
    "saml_accounts", "enterprise_accounts", "url", "public_inviter_data", "public_organization_data",
})  # fmt: skip


def _slim(shown: Json, listed_since: int) -> Json:
    """An object without what the mirror has no use for: secrets and private data stay here, and an organization that
    has been listed as it is need not come with each of its members."""
    slim = {name: value for name, value in shown.items() if name not in _UNUSED}
    if isinstance(public := shown.get("public_organization_data"), dict):
        slim.setdefault("organization_id", public.get("id"))
    if isinstance(person := shown.get("public_user_data"), dict):
        slim["public_user_data"] = {"user_id": person.get("user_id")}
    organization = shown.get("organization")
    if isinstance(organization, dict):
        updated = organization.get("updated_at")
        if isinstance(updated, int) and updated < listed_since:
            slim["organization_id"] = organization.get("id")
            del slim["organization"]
        else:
            slim["organization"] = {name: v for name, v in organization.items() if name not in _UNUSED}
    return slim


def _told(each: Mapping[str, Any], causes: Mapping[str, str]) -> Drift:
    names = ("kind", "id", "field", "mirror", "clerk", "org_id", "user_id")
    return Drift(**{name: each[name] for name in names}, cause=causes.get(each["id"], "unknown"))


def _add(tallies: dict[str, Tally], more: Mapping[str, Tally]) -> None:
    for name, tally in more.items():
        sums = {key: value + getattr(tallies.get(name, Tally()), key) for key, value in asdict(tally).items()}
        tallies[name] = Tally(**sums)
