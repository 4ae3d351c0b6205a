"""Provides the organizations that a plan needs: takes those that Clerk has, makes those it has not, with members.

Theory of operation.
- Each organization that is made carries, in its private metadata, a mark of what it stands for. Before anything is made
  all organizations are listed: one with the mark is taken, whoever made it in a run that was broken off.
- An answer that does not tell whether an organization was made is followed by a look for the mark, not by a second try.
- What was made is recorded in the database at once, and merged into the mirror; the file that the plan names gets the
  ids at the end, also of a run that failed.
- Who is a member already stays so, in whatever role.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tenantry import mirror
from tenantry.adopt import answers
from tenantry.adopt.catalog import SCHEMA, Schema
from tenantry.adopt.config import read_pairs
from tenantry.adopt.names import plain
from tenantry.adopt.plan import Plan, Source, value_of
from tenantry.adopt.preflight import users_by_email
from tenantry.clerk import Found
from tenantry.database import run
from tenantry.errors import AdoptionRefused, ClerkRefused, ClerkUnavailable, WrongInstance

if TYPE_CHECKING:
    import psycopg

    from tenantry.clerk import BackendApi, Json

MARK = "tenantry_adopt"
ADMIN = "org:admin"
MEMBER = "org:member"

_NAMES = ("name", "title", "display_name", "displayName", "company_name")
_PASSES = 3  # over a listing that counts more than it shows
_AT_ONCE = 4
_NEWEST = 100
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Wish:
    """`name`: one organization of this name for all users. `role_column` of the users' table: a role, or whether the
    user is an administrator. `most`: how many members an organization that is made may have, else Clerk decides.
    `partly`: users without a Clerk id are left out."""

    name: str = ""
    role_column: str = ""
    most: int | None = None
    partly: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """An organization: the one with `org_id`, or, where that is empty, one that stands for `key` of `kind`. `members`
    are roles by Clerk's id of the user."""

    kind: str
    key: str
    name: str
    org_id: str = ""
    members: Mapping[str, str] = field(default_factory=dict)

    def mark(self, database: str) -> Json:
        return {"of": f"{database}/{self.kind}", "key": self.key}


@dataclass(slots=True)
class Outcome:
    """`how`: adopted, found (made by an earlier run), created; of a dry run `missing` is what would be created.
    `joined` of `members` are new, or would be. `led`: somebody in it is an administrator."""

    key: str
    name: str
    how: str
    org_id: str = ""
    members: int = 0
    joined: int = 0
    led: bool = True
    problem: str = ""


Tell = Callable[[Outcome], None]


# --- what is wanted ---------------------------------------------------------------------------------------------------


def collect(connection: psycopg.Connection[Any], plan: Plan, schema: Schema, wish: Wish) -> list[Wanted]:
    """The organizations that the rows of a plan go to. Raises AdoptionRefused where the plan does not tell them."""
    collector = _Collector(connection, plan, schema, wish)
    if wish.name:
        return [Wanted("everybody", "", wish.name, members=collector.members("''::text").get("", {}))]
    rows = plan.rows
    found = list(collector.own())
    if rows.to == "organization":
        if not rows.organization:
            raise AdoptionRefused("[rows] names no organization.", hint='Name it, or make one with --name "...".')
        found.append(Wanted("everybody", "", "", rows.organization, collector.members("''::text").get("", {})))
    elif rows.to == "column":
        found += collector.by_column()
    elif rows.to == "csv":
        found += collector.by_user()
    if not found:
        raise AdoptionRefused(
            "This plan needs no organizations: a user's rows go to their personal tenant.",
            hint='Choose another way in [rows], or make one for everybody with --name "...".',
        )
    return found


class _Collector:
    def __init__(self, connection: psycopg.Connection[Any], plan: Plan, schema: Schema, wish: Wish) -> None:
        self._connection = connection
        self._plan = plan
        self._schema = schema
        self._wish = wish

    def by_column(self) -> Iterator[Wanted]:
        """One for each value of the users' column."""
        rows, users = self._plan.rows, self._users()
        value = value_of(rows, "t")
        known = _read(rows.csv) | {key: org_id for key, org_id in rows.organizations.items() if org_id}
        members, names = self.members(value), self._names(users)
        values = self._ask(f"select distinct {value} from {users.table} as t where t.{rows.column} is not null")
        for (key,) in sorted(values):
            kind = f"{users.table}.{rows.column}{f' by {rows.by}' if rows.by else ''}"
            yield Wanted(kind, key, names.get(key, key), known.get(key, ""), members.get(key, {}))
        if not rows.csv and any(key not in known for (key,) in values):
            raise AdoptionRefused(
                "There is no file for the ids of new organizations.",
                hint='Add csv = "organizations.csv" to [rows] in adopt.toml.',
            )

    def by_user(self) -> Iterator[Wanted]:
        """Those that the file of users names: it names them by Clerk's id, so they are there."""
        pairs = read_pairs(self._plan.rows.csv)
        members: dict[str, dict[str, str]] = {org_id: {} for org_id in pairs.values()}
        for key, held in self.members(f"t.{self._users().key}::text").items():
            if key in pairs:
                members[pairs[key]] |= held
        return (Wanted("owners", org_id, "", org_id, held) for org_id, held in sorted(members.items()))

    def own(self) -> Iterator[Wanted]:
        """The app's own organizations, where a file says which is which of Clerk's."""
        source = self._plan.organizations
        if source is None or not source.csv:
            return
        known, name = _read(source.csv), self._name_column(source.table)
        for key, named in self._ask(
            f"select t.{source.key}::text, t.{name or source.key}::text from {source.table} as t"
        ):
            yield Wanted(source.table, key, named or key, known.get(key, ""))

    def members(self, group: str) -> dict[str, dict[str, str]]:
        """Of each group of the app's users the roles by Clerk's id of the user."""
        users = self._users()
        role = f"t.{self._wish.role_column}::text" if self._wish.role_column else "null"
        column = f"t.{users.clerk_id}::text" if users.clerk_id else "null"
        self._require_columns(users)
        known = {} if users.clerk_id else self._clerk_ids(users)
        found: dict[str, dict[str, str]] = {}
        nameless = []
        query = (
            f"select t.{users.key}::text, {group}, {column}, {role} from {users.table} as t where {group} is not null"
        )
        for key, value, clerk_id, held in self._ask(query):
            clerk_id = clerk_id or known.get(key)
            if clerk_id:
                found.setdefault(value, {})[clerk_id] = _role(held)
            else:
                nameless.append(key)
        if nameless and not self._wish.partly:
            raise AdoptionRefused(
                f"{len(nameless)} of {users.table} have no Clerk id ({users.key} {_some(nameless)}), "
                "and can be nobody's members.",
                hint="Give them one, or leave them out with --partly. Nothing has been changed.",
            )
        return found

    def _clerk_ids(self, users: Source) -> dict[str, str]:
        if users.csv:
            return read_pairs(users.csv)
        return users_by_email(self._connection, users) if users.email else {}

    def _users(self) -> Source:
        users = self._plan.users
        if users is None or not users.table:
            raise AdoptionRefused(
                "The plan names no table of users, whose organizations these would be.",
                hint="Name it in [users], or make the organizations in Clerk and name their ids.",
            )
        return users

    def _require_columns(self, users: Source) -> None:
        table = self._schema.tables.get(users.table)
        if table is None:
            raise AdoptionRefused(f"{users.table} is not in the database.", hint="Edit [users] in adopt.toml.")
        rows = self._plan.rows
        used = [
            users.key,
            users.clerk_id,
            users.email,
            self._wish.role_column,
            rows.column if rows.to == "column" else "",
        ]
        missing = [name for name in used if name and table.column(name) is None]
        if missing:
            raise AdoptionRefused(f"{users.table} has no column {', '.join(missing)}.", hint="Edit adopt.toml.")
        if not (users.clerk_id or users.csv or users.email):
            raise AdoptionRefused(
                f"Nothing says which user of Clerk's a row of {users.table} is.",
                hint="Add clerk_id, email or csv to [users] in adopt.toml.",
            )

    def _names(self, users: Source) -> dict[str, str]:
        """What the values of the column are called, where it refers to a table that says so."""
        reference = self._schema.tables[users.table].reference((self._plan.rows.column,))
        name = self._name_column(reference.target) if reference else ""
        if reference is None or not name:
            return {}
        key = reference.target_columns[0]
        return dict(
            self._ask(f"select t.{key}::text, t.{name}::text from {reference.target} as t where t.{name} <> ''")
        )

    def _name_column(self, table: str) -> str:
        found = self._schema.tables.get(table)
        columns = {plain(column.name): column.name for column in found.columns} if found else {}
        return next((columns[name] for name in _NAMES if name in columns), "")

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(query.encode()).fetchall()


def _role(held: str | None) -> str:
    """A role from what a column holds: a role's name with or without `org:`, or whether one is an administrator."""
    if held in (None, "", "f", "false"):
        return MEMBER
    if held in ("t", "true"):
        return ADMIN
    return held if held.startswith("org:") else f"org:{held}"


def _some(found: list[str]) -> str:
    return ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")


def _read(path: str) -> dict[str, str]:
    return read_pairs(path) if path and Path(path).exists() else {}


# --- providing them ---------------------------------------------------------------------------------------------------


async def provide(
    api: BackendApi,
    connection: psycopg.Connection[Any],
    wanted: list[Wanted],
    wish: Wish,
    tell: Tell,
    *,
    dry_run: bool = False,
) -> list[Outcome]:
    """Makes what is missing; says what became of each. Run again, it goes on where it stopped.

    Raises, before anything is changed: WrongInstance, AdoptionRefused for roles and organizations that Clerk does not
    have, ClerkRefused, ClerkUnavailable.
    """
    provider = _Provider(api, connection, wish, dry_run=dry_run)
    await provider.prepare(wanted)
    outcomes = []
    for each in wanted:
        outcomes.append(await provider.provide(each))
        tell(outcomes[-1])
    return outcomes


class _Provider:
    def __init__(self, api: BackendApi, connection: psycopg.Connection[Any], wish: Wish, *, dry_run: bool) -> None:
        self._api = api
        self._connection = connection
        self._wish = wish
        self._dry_run = dry_run
        self._database = connection.info.dbname
        self._instance_id = ""
        self._there: dict[str, Json] = {}
        self._listed_at = 0
        self._recorded: dict[tuple[str, str], str] = {}

    async def prepare(self, wanted: Iterable[Wanted]) -> None:
        """Finds out what there is, and whether it fits."""
        await self._require_instance()
        await self._require_roles({role for each in wanted for role in each.members.values()})
        self._listed_at = self._api.now()
        self._there = await _list(self._api, "/organizations")
        missing = [each.org_id for each in wanted if each.org_id and each.org_id not in self._there]
        if missing:
            raise AdoptionRefused(
                f"Clerk has no organization {_some(missing)}.",
                hint="Mend adopt.toml or its file; what stands in neither is made. Nothing has been changed.",
            )
        if not self._dry_run:
            with self._connection.transaction():
                self._connection.execute(_MAKE.encode())
            query = f"select kind, key, clerk_id from {SCHEMA}.organizations"
            self._recorded = {(kind, key): id for kind, key, id in self._connection.execute(query.encode())}

    async def _require_instance(self) -> None:
        self._instance_id = await self._api.instance_id()
        mirrored = answers.value(self._connection, "select instance_id from tenantry.clerk_instance")
        if mirrored not in (None, self._instance_id):
            raise WrongInstance(
                f"CLERK_SECRET_KEY is of instance {self._instance_id}, and this database mirrors {mirrored}.",
                hint="Take that instance's key. Nothing has been changed.",
            )

    async def _require_roles(self, used: set[str]) -> None:
        known = {each["key"] for each in (await _list(self._api, "/organization_roles")).values()} if used else set()
        if used - known:
            raise AdoptionRefused(
                f"Clerk has no role {', '.join(sorted(used - known))}; it has {', '.join(sorted(known))}.",
                hint="Make it in Clerk's dashboard, or choose another --role-column. Nothing has been changed.",
            )

    async def provide(self, each: Wanted) -> Outcome:
        organization, how = self._find(each), "adopted" if each.org_id else "found"
        outcome = Outcome(each.key, each.name, how, members=len(each.members))
        if organization is None and self._dry_run:
            outcome.how, outcome.joined = "missing", len(each.members)
            outcome.led = ADMIN in each.members.values()
            return outcome
        try:
            if organization is None:
                outcome.how = "created"
                organization = await self._create(each)
            outcome.org_id, outcome.name = organization["id"], str(organization.get("name") or each.name)
            if not self._dry_run:
                self._record(each, organization)
            await self._join(each, organization["id"], outcome)
        except ClerkRefused as error:
            outcome.problem = error.message
        return outcome

    def _find(self, each: Wanted) -> Json | None:
        """What stands for it already: what the plan names, or the record, or a mark."""
        known = each.org_id or self._recorded.get((each.kind, each.key), "")
        return self._there.get(known) or self._marked(each, self._there.values())

    def _marked(self, each: Wanted, organizations: Iterable[Json]) -> Json | None:
        mark = each.mark(self._database)
        return next((one for one in organizations if (one.get("private_metadata") or {}).get(MARK) == mark), None)

    async def _create(self, each: Wanted) -> Json:
        body: Json = {"name": each.name, "private_metadata": {MARK: each.mark(self._database)}}
        if self._wish.most is not None:
            body["max_allowed_memberships"] = self._wish.most
        found = await self._api.create("/organizations", body, partial(self._seek, each))
        if found.object is None:
            raise ClerkRefused("Clerk does not make organizations here.", hint="Enable them in Clerk's dashboard.")
        return found.object

    async def _seek(self, each: Wanted) -> Found:
        """It would be among the newest."""
        page = await self._api.page("/organizations", limit=_NEWEST, order_by="-created_at")
        return Found(self._marked(each, page.objects) if page else None, page.observed_at if page else 0)

    def _record(self, each: Wanted, organization: Json) -> None:
        query = f"""insert into {SCHEMA}.organizations (kind, key, clerk_id) values (%s, %s, %s)
          on conflict (kind, key) do update set clerk_id = excluded.clerk_id"""
        with self._connection.transaction():
            self._connection.execute(query.encode(), [each.kind, each.key, organization["id"]])
            self._merge("organizations", [organization])

    async def _join(self, each: Wanted, org_id: str, outcome: Outcome) -> None:
        path = f"/organizations/{quote(org_id, safe='')}/memberships"
        there = await _list(self._api, path)
        held = {_user_of(one): one for one in there.values()}
        new = [(user_id, role) for user_id, role in each.members.items() if user_id not in held]
        outcome.joined = len(new)
        if not self._dry_run:
            outcome.joined = await self._add(path, new, held, outcome)
        roles = {one["role"] for one in held.values()} | ({role for _, role in new} if self._dry_run else set())
        outcome.led = ADMIN in roles

    async def _add(self, path: str, new: list[tuple[str, str]], held: dict[str, Json], outcome: Outcome) -> int:
        """How many joined; what Clerk refuses is the outcome's problem."""
        joined = 0
        for start in range(0, len(new), _AT_ONCE):
            some = new[start : start + _AT_ONCE]
            answered = await asyncio.gather(*(self._add_one(path, *one) for one in some), return_exceptions=True)
            for (user_id, _), answer in zip(some, answered, strict=True):
                if isinstance(answer, ClerkRefused):
                    outcome.problem = outcome.problem or f"{user_id}: {answer.message}"
                elif isinstance(answer, BaseException):
                    raise answer
                elif answer is None:
                    outcome.problem = outcome.problem or f"{user_id} is not a user of this Clerk instance."
                else:
                    held[user_id] = answer
                    joined += 1
        self._merge("memberships", list(held.values()))
        return joined

    async def _add_one(self, path: str, user_id: str, role: str) -> Json | None:
        seek = partial(self._member, path, user_id)
        try:
            return (await self._api.create(path, {"user_id": user_id, "role": role}, seek)).object
        except ClerkRefused:
            if (found := await seek()).object is None:
                raise
            return found.object  # somebody else was faster

    async def _member(self, path: str, user_id: str) -> Found:
        page = await self._api.page(path, limit=1, user_id=user_id)
        found = next((one for one in page.objects if _user_of(one) == user_id), None) if page else None
        return Found(found, page.observed_at if page else 0)

    def _merge(self, kind: str, objects: list[Json]) -> None:
        """As of before the listing: a webhook's later news is not undone."""
        if objects:
            options = {"observed_at": self._listed_at, "instance_id": self._instance_id}
            run(self._connection, mirror.merge_page(kind, objects, options))


_MAKE = f"""
create schema if not exists {SCHEMA};
create table if not exists {SCHEMA}.organizations (
  kind     text,                               -- whose value the key is: a column of the app's, or everybody
  key      text,
  clerk_id text not null,
  made_at  timestamptz not null default now(),
  primary key (kind, key)
);"""


def _user_of(membership: Json) -> str:
    return str((membership.get("public_user_data") or {}).get("user_id") or "")


async def _list(api: BackendApi, path: str) -> dict[str, Json]:
    """All objects of a list. Raises ClerkUnavailable where it keeps counting more than it shows: what is overlooked
    would be made twice."""
    found: dict[str, Json] = {}
    total = 0
    for _ in range(_PASSES):
        offset = 0
        while (page := await api.page(path, offset=offset, order_by="created_at")) is not None:
            found |= {each["id"]: each for each in page.objects}
            total = page.total or 0
            if len(page.objects) < 2 or offset + len(page.objects) >= total:
                break
            offset += len(page.objects) - 1  # pages overlap: rows may go meanwhile
        if len(found) >= total:
            return found
    raise ClerkUnavailable(
        f"Clerk counts {total} at {path} and shows {len(found)}.", hint="Try again later. Nothing has been changed."
    )


# --- what the plan gets -----------------------------------------------------------------------------------------------


def is_recorded(connection: psycopg.Connection[Any]) -> bool:
    """Whether anything was made here."""
    return bool(answers.value(connection, "select to_regclass(%s) is not null", [f"{SCHEMA}.organizations"]))


def note(plan: Plan, wanted: Iterable[Wanted], connection: psycopg.Connection[Any]) -> list[str]:
    """Writes the ids of what has been made so far to the files that the plan names; answers which were written."""
    query = f"select kind, key, clerk_id from {SCHEMA}.organizations"
    recorded = {(kind, key): id for kind, key, id in connection.execute(query.encode())}
    made: dict[str, dict[str, str]] = {}
    for each in wanted:
        own = plan.organizations is not None and each.kind == plan.organizations.table
        path = plan.organizations.csv if own and plan.organizations else plan.rows.csv
        if path and not each.org_id and (each.kind, each.key) in recorded and each.kind != "everybody":
            made.setdefault(path, {})[each.key] = recorded[each.kind, each.key]
    for path, pairs in made.items():
        _write(path, {**_read(path), **pairs})
    return sorted(made)


def _write(path: str, pairs: Mapping[str, str]) -> None:
    """The whole file or none of it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(pairs.items())
    beside = Path(f"{path}.new")
    beside.write_text(text.getvalue(), encoding="utf-8")
    beside.replace(path)
