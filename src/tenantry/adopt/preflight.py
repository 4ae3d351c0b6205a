"""What must hold before anything is changed, such as who may, and whom Clerk knows; and before rows are hidden.

Whatever does not is a sentence; all of them are told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tenantry import mirror
from tenantry.adopt import answers, handmade, obstacles, verify, waiting
from tenantry.adopt import plan as plans
from tenantry.adopt.catalog import Schema, kind_of
from tenantry.adopt.config import read_pairs
from tenantry.adopt.names import plain
from tenantry.adopt.plan import Plan, Source, value_of
from tenantry.adopt.record import Move
from tenantry.adopt.step import Known, Line, Step
from tenantry.database import run
from tenantry.errors import AdoptionRefused

if TYPE_CHECKING:
    import psycopg

_CHUNK = 5_000
_SHOWN = 5
_VALUES = 1_000  # more organizations than that a person names in a file
_DIFFERING = (
    "Run `tenantry adopt verify`. Mend them; or, where the app that sets a tenant wrote them so, "
    "`tenantry adopt apply --to isolate --differing`."
)
_UNOWNED = (
    "Give them an owner, name the organizations that are missing, or who gets the rest: "
    'rest = "org_..." in [rows] of adopt.toml. Then run it again.'
)
_RESTLESS = "Their users have gone elsewhere just now: run it again."
_MAY = """
select pg_has_role(current_user, %(owner)s, 'usage'),
  has_database_privilege(%(owner)s, current_database(), 'create'),
  pg_has_role(%(owner)s, 'tenantry_app', 'usage')"""


def find_owner(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> str:
    """The owner of the tables, as whom the move is made. Raises AdoptionRefused where there are several, or the login
    may not act for it."""
    owners = {schema.tables[d.table].owner for d in plan.decisions if d.table in schema.tables}
    if not owners:
        raise AdoptionRefused(
            "The plan names no table of this database.", hint="Is it the right database? See `tenantry adopt plan`."
        )
    if len(owners) > 1:
        raise AdoptionRefused(
            f"The tables have {len(owners)} owners: {', '.join(sorted(owners))}.",
            hint="Give them one: alter table ... owner to ...",
        )
    owner = owners.pop()
    row = connection.execute(_MAY, {"owner": plain(owner)}).fetchone() or (False, False, False)
    if not row[0]:
        raise AdoptionRefused(
            f"The tables belong to {owner}, and this login is {schema.login}.", hint=f"Log in as {owner}."
        )
    if not row[2]:
        raise AdoptionRefused(
            f"{owner}, who owns the tables, may not use the tenantry schema.",
            hint=f"Run `tenantry db migrate --app-role {plain(owner)}`.",
        )
    if not row[1]:
        name = answers.value(connection, "select quote_ident(current_database())")
        raise AdoptionRefused(
            f"{owner}, who owns the tables, may not create a schema.",
            hint=f"Run: grant create on database {name} to {owner};",
        )
    return owner


def examine(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> Known:
    """What the steps need to know. Raises AdoptionRefused with everything that is in the way."""
    problems = plans.check(plan, schema)
    if problems:
        raise _refusal(problems, "Edit adopt.toml; `tenantry adopt plan` shows what there is to choose from.")
    plans.sort(plan, schema)
    examiner = _Examiner(connection, plan, schema)
    examiner.problems += obstacles.list_problems(connection, plan, schema)
    examiner.problems += handmade.list_problems(connection, plan, schema)
    known = examiner.examine()
    if examiner.problems:
        raise _refusal(examiner.problems, "Nothing has been changed.")
    return known


def examine_added(connection: psycopg.Connection[Any], plan: Plan, schema: Schema, begun: Move) -> Known:
    """What a plan stands for to which something has been added since the move began. Raises AdoptionRefused with
    everything that is not as it was then, or cannot be."""
    examiner = _Examiner(connection, plan, schema, begun)
    known = examiner.examine()
    if examiner.problems:
        raise _refusal(examiner.problems, "Nothing has been changed.")
    return known


def examine_rows(connection: psycopg.Connection[Any], plan: Plan, schema: Schema, *, differing: bool) -> None:
    """What must hold of the rows before isolation hides them. `differing`: some may have another tenant.

    Raises AdoptionRefused.
    """
    if gone := [decision.table for decision in plan.decisions if decision.table not in schema.tables]:
        raise _refusal([f"{_some(gone)} not in the database any more."], "Bring it back, or undo and plan again.")
    examiner = _Examiner(connection, plan, schema)
    examiner.examine_columns()
    if examiner.problems:
        raise _refusal(examiner.problems, "Mend the rows; `tenantry adopt verify` looks again.")
    found = verify.find_unsettled(connection, plan, schema)
    found = [finding for finding in found if finding.kind == "null" or not differing]
    problems = [f"{finding.table}: {finding.message}" for finding in found]
    if not problems:
        return
    kinds = {finding.kind for finding in found}
    unnamed = waiting.list_unnamed(connection, plan, schema) if kinds != {"tenant"} else []
    hint = _UNOWNED if unnamed or "null" in kinds else _DIFFERING if "tenant" in kinds else _RESTLESS
    raise _refusal([*problems, *(f"{table}: {told}" for table, told in unnamed)], hint)


def column_checks(plan: Plan, schema: Schema) -> Iterator[tuple[str, str]]:
    """Queries whose count must be 0, and what else is the problem, of columns that hold Clerk's ids already."""
    for decision in plan.owned:
        if decision.tenant == "column" and not schema.tables[decision.table].isolation:
            table, column = decision.table, decision.column[0]
            none = f"{{count}} rows of {table} have no organization in {column}. Fill them."
            yield f"select count(*) from {table} where {column} is null", none
            ids = f"(select coalesce(jsonb_agg(distinct {column}), '[]') from {table} where {column} is not null)"
            unknown = f"{table}.{column}: {{count}} ids are not in the mirror. Run `tenantry reconcile`, then again."
            yield f"select jsonb_array_length(tenantry.list_unknown_ids_v1({ids}))", unknown


def examine_dependants(connection: psycopg.Connection[Any], steps: Iterable[Step], *, begun: bool) -> None:
    """What must hold before keys go: nothing depends on them but what goes with them. Raises AdoptionRefused."""
    if dependants := obstacles.list_dependants(connection, steps):
        back = "" if begun else "; or `tenantry adopt undo` and plan again, which keeps what others depend on"
        raise _refusal(dependants, f"Then go on with `tenantry adopt apply --to contract`{back}.")


def _refusal(problems: Iterable[str], hint: str) -> AdoptionRefused:
    told = list(problems)
    first = "This is in the way:" if len(told) == 1 else f"{len(told)} things are in the way:"
    return AdoptionRefused(first, detail="\n".join(f"- {problem}" for problem in told), hint=hint)


class _Examiner:
    """Looks at a plan whole; where its move has begun, at what has been added to it since."""

    def __init__(
        self, connection: psycopg.Connection[Any], plan: Plan, schema: Schema, begun: Move | None = None
    ) -> None:
        self._connection = connection
        self._plan = plan
        self._schema = schema
        self._begun = begun
        self._known = begun.known if begun else Known()
        self.problems: list[str] = []

    def examine(self) -> Known:
        rows = self._plan.rows
        named = [each for each in (rows.organization, rows.rest) if each and each not in self._known.tenants]
        self._require_known(named, "[rows]")
        given = [*self._users(), *self._organizations(), *self._owners(), *self._rest()]
        if self._begun is None:
            self.examine_columns()
        tenants = {} if self.problems else {org_id: self._tenant(org_id) for org_id in named}
        return Known({**self._known.tenants, **tenants}, (*self._known.given, *given))

    def _tenant(self, org_id: str) -> str:
        return str(answers.value(self._connection, "select tenantry.adopt_tenant_v1(%s)::text", [org_id]))

    # --- users and organizations of the app

    def _users(self) -> Iterator[Line]:
        source = self._plan.users
        if source is None or not self._is_used(source) or self._plan.rows.to != "personal":
            return
        bound = self._connection.execute("select from tenantry.clerk_instance").fetchone()
        if bound is None:
            self.problems.append(
                "The mirror has not seen Clerk yet, and personal tenants are named after its instance: "
                "run `tenantry reconcile` first."
            )
            return
        yield from self._clerk_ids(source, "users")

    def _organizations(self) -> Iterator[Line]:
        if self._plan.organizations is not None and self._is_used(self._plan.organizations):
            yield from self._clerk_ids(self._plan.organizations, "organizations")

    def _is_used(self, source: Source) -> bool:
        return any(source == named for named, _ in self._plan.sources(self._schema))

    def _clerk_ids(self, source: Source, kind: str) -> Iterator[Line]:
        """Clerk's ids of a table's rows, from where they are; only what is in no column has to be given."""
        if self._begun and (source.clerk_id or not source.table):
            return  # triggers see to it
        if not source.table:
            for decision in self._plan.owned:
                if decision.tenant == "owner" and self._plan.source(self._schema, decision) == source:
                    column = decision.column[0]
                    ids = self._values(f"select distinct {column} from {decision.table} where {column} is not null")
                    self._require_known(ids, f"{decision.table}.{column}")
            return
        if source.clerk_id:
            missing = f"select count(*) from {source.table} where {source.clerk_id} is null"
            self._count(missing, f"{{}} rows of {source.table} have no Clerk id in {source.clerk_id}")
            query = f"select {source.clerk_id}::text from {source.table} where {source.clerk_id} is not null"
            self._require_known(self._values(query), f"{source.table}.{source.clerk_id}")
            return
        pairs = read_pairs(source.csv) if source.csv else users_by_email(self._connection, source)
        keys = set(self._values(f"select {source.key}::text from {source.table}"))
        self._require_all(keys, pairs, source.table, source.csv or f"the mirror, by {source.email}")
        if source.csv:
            self._require_kept(kind, keys, pairs, source.csv)
        yield from self._added(kind, pairs, source.csv or source.email)

    def _owners(self) -> Iterator[Line]:
        """Which organization a user's rows go to."""
        rows, source = self._plan.rows, self._plan.users
        if source is None or not self._is_used(source) or rows.to not in ("column", "csv"):
            return
        if rows.to == "csv":
            pairs, kind, value = read_pairs(rows.csv), "owners", f"{source.key}::text"
        else:
            pairs = read_pairs(rows.csv) if rows.csv else {}
            pairs |= {key: org_id for key, org_id in rows.organizations.items() if org_id}
            kind, value = "values", value_of(rows, source.table)
        keys = set(self._values(f"select distinct {value} from {source.table} where {value} is not null"))
        where = rows.csv or "[rows.organizations]"
        self._require_all(keys, pairs, f"{source.table}.{rows.column or source.key}", where)
        self._require_kept(kind, keys, pairs, where)
        yield from self._added(kind, pairs, where)

    def _rest(self) -> Iterator[Line]:
        now, before = self._plan.rows.rest, self._begun.plan.rows.rest if self._begun else ""
        if before and now != before:
            self.problems.append(f"[rows]: rest was {before} when the move began. Put it back.")
        elif now and not before:
            yield "rest", "given", now

    def _added(self, kind: str, pairs: dict[str, str], where: str) -> Iterator[Line]:
        """Also of whom the app does not know yet: they may come while the move is under way."""
        held = {key for of, key, _ in self._known.given if of == kind}
        added = {key: clerk_id for key, clerk_id in pairs.items() if key not in held}
        self._require_known(added.values(), where)
        yield from ((kind, key, clerk_id) for key, clerk_id in added.items())

    def examine_columns(self) -> None:
        """Columns that hold Clerk's ids of organizations already."""
        for decision in self._plan.owned:
            if decision.tenant == "column" and not self._schema.tables[decision.table].isolation:
                column = decision.column[0]
                self._count(
                    f"select count(*) from {decision.table} where {column} is null",
                    f"{{}} rows of {decision.table} have no organization in {column}",
                    rest=False,
                )
                ids = self._values(f"select distinct {column} from {decision.table} where {column} is not null")
                self._require_known(ids, f"{decision.table}.{column}")

    # --- problems

    def _require_all(self, keys: set[str], pairs: dict[str, str], what: str, where: str) -> None:
        missing = sorted(keys - pairs.keys())
        if missing and not self._plan.rows.rest and self._begun is None:
            self.problems.append(f"{what}: {_some(missing)} not in {where}. Add them, or name who gets the rest.")

    def _require_kept(self, kind: str, keys: set[str], pairs: dict[str, str], where: str) -> None:
        """What a move began with stays: rows are where it says already."""
        held = {key: clerk_id for of, key, clerk_id in self._known.given if of == kind}
        for key, before in sorted(held.items()):
            now = pairs.get(key)
            if now is None and key in keys:
                self.problems.append(f"{where}: {key} was {before} when the move began, and is gone. Put it back.")
            elif now not in (None, before):
                self.problems.append(f"{where}: {key} was {before} when the move began, and is {now}. Put it back.")

    def _require_known(self, ids: Iterable[str], where: str) -> None:
        unknown = []
        for chunk in _chunks(sorted(set(ids))):
            odd = [each for each in chunk if not kind_of(each)]
            if odd:
                self.problems.append(f"{where}: {_some(odd)} no Clerk id.")
                return
            unknown += mirror.decode(run(self._connection, mirror.list_unknown_ids(chunk)))
        if unknown:
            self.problems.append(f"{where}: {_some(unknown)} not in the mirror. Run `tenantry reconcile`, then again.")

    def _count(self, query: str, problem: str, *, rest: bool = True) -> None:
        count = answers.value(self._connection, query)
        if count and not (rest and self._plan.rows.rest):
            hint = ", or name who gets the rest." if rest else "."
            self.problems.append(f"{problem.format(count)}. Fill them{hint}")

    def _values(self, query: str) -> list[str]:
        return answers.texts(self._connection, query)


def users_by_email(connection: psycopg.Connection[Any], source: Source) -> dict[str, str]:
    """Clerk's ids of the app's users, by key, from their primary address; one that several have tells nothing."""
    with connection.transaction():
        connection.execute("select tenantry.bypass_tenant_v1('adopt: users by e-mail')")
        rows = connection.execute(
            "select lower(primary_email), min(id), count(*) from tenantry.users"
            " where primary_email is not null and ended_at is null group by 1"
        ).fetchall()
    clerk_ids = {email: clerk_id for email, clerk_id, count in rows if count == 1}
    query = f"select {source.key}::text, lower({source.email}::text) from {source.table}"
    app = connection.execute(query.encode()).fetchall()
    return {key: clerk_ids[email] for key, email in app if email in clerk_ids}


def list_values(connection: psycopg.Connection[Any], plan: Plan, schema: Schema) -> list[str]:
    """What is in the column that rows go by, for each of which an organization has to be named."""
    table = schema.tables.get(plan.users.table) if plan.users else None
    if table is None or table.column(plan.rows.column) is None:
        return []
    value = value_of(plan.rows, "t")
    query = f"select distinct {value} from {table.name} as t where {value} is not null order by 1 limit {_VALUES}"
    return answers.texts(connection, query)


def _some(found: list[str]) -> str:
    shown = ", ".join(found[:_SHOWN])
    if len(found) == 1:
        return f"{shown} is"
    return f"{shown} are" if len(found) <= _SHOWN else f"{len(found)} ({shown}, ...) are"


def _chunks(values: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
